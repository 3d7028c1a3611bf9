import * as z from 'zod';

import { wholeSeconds } from '../../instants.ts';
import { dateOf, idOf, instant, optionalText, reference, text } from './common.ts';

const json = z.record(z.string(), z.unknown());

/** Without these it is no event, and cannot be recorded as one. */
const essentials = z.object({ id: text, type: text, data: z.looseObject({ object: json }) });

/** The rest is looked at for itself: an event in which it is wrong is recorded all the same, as failed. */
const details = z.object({
  created: instant.nullish(),
  livemode: z.boolean().nullish(),
  account: optionalText,
  data: z.object({ previous_attributes: json.nullish() }),
});

/** https://docs.stripe.com/event-destinations#thin-events */
const thinEvent = z.object({ object: z.literal('v2.core.event') });

/** One Stripe event. https://docs.stripe.com/api/events/object */
export interface StripeEvent {
  id: string;
  type: string;
  /** When it happened, at Stripe. */
  created: Date;
  /** Whether it is about real money; null when it does not say. */
  livemode: boolean | null;
  /** The connected account that it happened in; null for our own. */
  account: string | null;
  /** The customer that its object is, or is of; null when it names none. */
  customerId: string | null;
  object: Record<string, unknown>;
  /** Of an `updated` event: what the changed fields were before; empty when it does not say. */
  previousAttributes: Record<string, unknown>;
  /** What is wrong with one of the above, so that it cannot be handled; what is wrong counts as absent. */
  malformed: z.ZodError | null;
}

/**
 * @param body the parsed body of a webhook
 * @param receivedAt stands in for an absent `created`, UTC
 * @returns the event, or null when it has no id, type or `data.object` that can be kept (`whyNoEvent`)
 */
export function readEvent(body: unknown, receivedAt: Date): StripeEvent | null {
  const parsed = essentials.safeParse(body);
  if (!parsed.success) return null;
  const { id, type, data } = parsed.data;
  const { data: rest, error } = details.safeParse(body);
  return {
    id,
    type,
    created: dateOf(rest?.created) ?? wholeSeconds(receivedAt),
    livemode: rest?.livemode ?? null,
    account: rest?.account ?? null,
    customerId: customerOf(type, data.object),
    object: data.object,
    previousAttributes: rest?.data.previous_attributes ?? {},
    malformed: error ?? null,
  };
}

/**
 * @param body a parsed body of which `readEvent` made no event; undefined when it was no JSON
 * @returns what is wrong with it, in words for whoever sent it
 */
export function whyNoEvent(body: unknown): string {
  if (thinEvent.safeParse(body).success) {
    return 'this is a thin event, which names its object without holding it: set the event destination to snapshot events';
  }
  return 'the body is no event: it wants an id, a type and data.object';
}

function customerOf(type: string, object: Record<string, unknown>): string | null {
  const isCustomer = /^customer\.(created|updated|deleted)$/.test(type);
  const named = reference.safeParse(isCustomer ? object['id'] : object['customer']);
  return named.success ? idOf(named.data) : null;
}
