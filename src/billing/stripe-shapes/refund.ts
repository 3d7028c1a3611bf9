import { z } from 'zod';

import { idOf, reference, text } from './common.ts';

export const refundShape = z.object({
  id: text,
  payment_intent: reference.nullish(),
  charge: reference.nullish(),
});

/**
 * Reads a refund. https://docs.stripe.com/api/refunds/object
 *
 * @param object the JSON object
 * @returns the payment that it gives back: of the payment intent, else of the charge; null when it names none
 * @throws ZodError when it is no refund
 */
export function readRefund(object: unknown): { paymentId: string | null } {
  const raw = refundShape.parse(object);
  return { paymentId: idOf(raw.payment_intent ?? raw.charge) };
}
