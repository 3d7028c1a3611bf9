import * as z from 'zod';

import { idOf, optionalReference, text } from './common.ts';

export const chargeShape = z.object({
  id: text,
  payment_intent: optionalReference,
  /** Until API 2025-03 (basil). */
  invoice: optionalReference,
  refunded: z.boolean().nullish(),
});

/** A charge, as far as it says whether its money went back. */
export interface ChargeFacts {
  /** Of the payment intent, else of the charge. */
  paymentId: string;
  /** Its invoice, in the shapes that name it. */
  invoiceId: string | null;
  /** All of it went back. */
  refundedInFull: boolean;
}

/**
 * Reads a charge in today's API shape and in those before 2025-03 (basil).
 * https://docs.stripe.com/api/charges/object
 *
 * @param object the JSON object
 * @returns what we keep of it
 * @throws ZodError when it is no charge in any of these shapes
 */
export function readCharge(object: unknown): ChargeFacts {
  const raw = chargeShape.parse(object);
  return {
    paymentId: idOf(raw.payment_intent) ?? raw.id,
    invoiceId: idOf(raw.invoice),
    refundedInFull: raw.refunded === true,
  };
}
