import { z } from 'zod';

import { dateOf, idOf, instant, reference } from './common.ts';

export const disputeShape = z.object({
  id: z.string().min(1),
  payment_intent: reference.nullish(),
  charge: reference.nullish(),
  created: instant.nullish(),
  status: z.string().min(1),
});

/** A dispute as one event, or Stripe's answer, shows it. */
export interface DisputeSnapshot {
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
    id: raw.id,
    paymentId: idOf(raw.payment_intent ?? raw.charge),
    createdAt: dateOf(raw.created),
    status: raw.status,
  };
}
