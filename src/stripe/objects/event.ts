import * as z from 'zod';

import { wholeSeconds } from '../../instants.ts';
import { dateOf, idOf, instant, optionalText, reference, text } from './common.ts';

const json = z.record(z.string(), z.unknown());

/** Without these it is not an event and cannot be recorded as one. */
const essentials = z.object({ id: text, type: text, data: z.looseObject({ object: json }) });

/** Checked separately: an event with an invalid detail is recorded as failed. */
const details = z.object({
  created: instant.nullish(),
  livemode: z.boolean().nullish(),
  account: optionalText,
  data: z.object({ previous_attributes: json.nullish() }),
});

/** https://docs.stripe.com/event-destinations#thin-events */
const thinEvent = z.object({ object: z.literal('v2.core.event') });

/** A Stripe event. https://docs.stripe.com/api/events/object */
export interface StripeEvent {
  id: string;
  type: string;
  /** When it happened, by Stripe's clock. */
  created: Date;
  /** Whether real money is involved; null when the event does not say. */
  livemode: boolean | null;
  /** The connected account it happened in; null for our own. */
  account: string | null;
  /** The customer that the object is or belongs to; null when it names none. */
  customerId: string | null;
  /** The invoice or payment that the object is about, if it names no customer. */
  aboutId: string | null;
  object: Record<string, unknown>;
  /** The changed fields' previous values, in an `updated` event; empty when it does not say. */
  previousAttributes: Record<string, unknown>;
  /**
   * Why a detail is invalid; such an event cannot be handled, and its `created`, `livemode`, `account` and
   * `previousAttributes` all count as absent. Null when all details are valid.
   */
  malformed: z.ZodError | null;
}

/**
 * @param receivedAt stands in for an absent `created`, UTC
 * @returns null when there is no storable id, type or `data.object` (see `whyNotAnEvent`)
 */
export function readEvent(body: unknown, receivedAt: Date): StripeEvent | null {
  const parsed = essentials.safeParse(body);
  if (!parsed.success) return null;
  const { id, type, data } = parsed.data;
  const { data: rest, error } = details.safeParse(body);
  const customerId = customerIdOf(type, data.object);
  return {
    id,
    type,
    created: dateOf(rest?.created) ?? wholeSeconds(receivedAt),
    livemode: rest?.livemode ?? null,
    account: rest?.account ?? null,
    customerId,
    aboutId: customerId === null ? aboutOf(type, data.object) : null,
    object: data.object,
    previousAttributes: rest?.data.previous_attributes ?? {},
    malformed: error ?? null,
  };
}

/**
 * Tells the sender why `readEvent` returned null.
 *
 * @param body undefined when it was not JSON
 */
export function whyNotAnEvent(body: unknown): string {
  if (thinEvent.safeParse(body).success) {
    return 'this is a thin event, which does not contain its object: switch the event destination to snapshot events';
  }
  return 'the body is not a Stripe event: it needs an id, a type and data.object';
}

/** Types whose objects name no customer, and the fields that lead to one. */
const ABOUT: readonly [prefix: string, fields: readonly string[]][] = [
  ['invoice_payment.', ['invoice']],
  ['charge.dispute.', ['payment_intent', 'charge']],
  ['charge.refund.', ['payment_intent', 'charge']],
  ['refund.', ['payment_intent', 'charge']],
];

function aboutOf(type: string, object: Record<string, unknown>): string | null {
  const fields = ABOUT.find(([prefix]) => type.startsWith(prefix))?.[1] ?? [];
  const named = fields.map((field) => reference.safeParse(object[field]).data);
  return idOf(named.find((one) => one !== undefined));
}

function customerIdOf(type: string, object: Record<string, unknown>): string | null {
  const isCustomer = /^customer\.(created|updated|deleted)$/.test(type);
  const named = reference.safeParse(isCustomer ? object['id'] : object['customer']);
  return named.success ? idOf(named.data) : null;
}
