import * as z from 'zod';

import { idOf, optionalReference, text } from './common.ts';

export const refundShape = z.object({
  id: text,
  payment_intent: optionalReference,
  charge: optionalReference,
  status: z.string().nullish(),
});

/** A refund, as far as it says what became of it. */
export interface RefundSnapshot {
  /** The payment that it gives back: of the payment intent, else of the charge; null when it names none. */
  paymentId: string | null;
  status: string | null;
}

/**
 * Reads a refund. https://docs.stripe.com/api/refunds/object
 *
 * @param object the JSON object
 * @returns what we keep of it
 * @throws ZodError when it is no refund
 */
export function readRefund(object: unknown): RefundSnapshot {
  const raw = refundShape.parse(object);
  return { paymentId: idOf(raw.payment_intent ?? raw.charge), status: raw.status ?? null };
}
