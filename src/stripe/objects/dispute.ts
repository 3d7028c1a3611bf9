import * as z from 'zod';

import { dateOf, idOf, instant, optionalReference, optionalText, text } from './common.ts';

export const disputeShape = z.object({
  /** Events of API versions before 2014 can lack it. */
  id: optionalText,
  payment_intent: optionalReference,
  charge: optionalReference,
  created: instant.nullish(),
  status: text,
});

/** A dispute as one event, or Stripe's answer, shows it. */
export interface DisputeSnapshot {
  /** Its own id, else its charge's; empty when it names neither, and so no payment. */
  id: string;
  /** Of the payment intent, else of the charge; null when it names none. */
  paymentId: string | null;
  /** When it was opened. */
  createdAt: Date | null;
  status: string;
}

/**
 * Reads a dispute. https://docs.stripe.com/api/disputes/object
 *
 * @param object the JSON object
 * @returns what we keep of it
 * @throws ZodError when it is no dispute
 */
export function readDispute(object: unknown): DisputeSnapshot {
  const raw = disputeShape.parse(object);
  return {
    id: raw.id ?? idOf(raw.charge ?? raw.payment_intent) ?? '',
    paymentId: idOf(raw.payment_intent ?? raw.charge),
    createdAt: dateOf(raw.created),
    status: raw.status,
  };
}
