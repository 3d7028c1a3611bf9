import { z } from 'zod';

import { wholeSeconds } from '../../instants.ts';
import { instant } from './common.ts';

const json = z.record(z.string(), z.unknown());

const envelope = z.object({
  id: z.string().min(1),
  type: z.string().min(1),
  created: instant.optional(),
  livemode: z.boolean().nullish(),
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
  const { id, type, created, livemode, data } = parsed.data;
  return {
    id,
    type,
    created: created ?? wholeSeconds(receivedAt),
    livemode: livemode ?? null,
    object: data.object,
    previousAttributes: data.previous_attributes ?? {},
  };
}
