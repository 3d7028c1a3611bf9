import { z } from 'zod';

import { wholeSeconds } from '../../instants.ts';
import { dateOf, idOf, instant, reference } from './common.ts';

const json = z.record(z.string(), z.unknown());

const envelope = z.object({
  id: z.string().min(1),
  type: z.string().min(1),
  created: instant.nullish(),
  livemode: z.boolean().nullish(),
  account: z.string().nullish(),
  data: z.object({ object: json, previous_attributes: json.nullish() }),
});

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
}

/**
 * @param body the parsed body of a webhook
 * @param receivedAt stands in for an absent `created`, UTC
 * @returns the event, or null when it has no id, type or `data.object`
 */
export function readEvent(body: unknown, receivedAt: Date): StripeEvent | null {
  const parsed = envelope.safeParse(body);
  if (!parsed.success) return null;
  const { id, type, created, livemode, account, data } = parsed.data;
  return {
    id,
    type,
    created: dateOf(created) ?? wholeSeconds(receivedAt),
    livemode: livemode ?? null,
    account: account ?? null,
    customerId: customerOf(type, data.object),
    object: data.object,
    previousAttributes: data.previous_attributes ?? {},
  };
}

function customerOf(type: string, object: Record<string, unknown>): string | null {
  const isCustomer = /^customer\.(created|updated|deleted)$/.test(type);
  const named = reference.safeParse(isCustomer ? object['id'] : object['customer']);
  return named.success ? idOf(named.data) : null;
}
