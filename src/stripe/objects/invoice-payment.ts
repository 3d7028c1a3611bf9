import * as z from 'zod';

import { idOf, optionalReference, reference, text } from './common.ts';

export const invoicePaymentShape = z.object({
  id: text,
  invoice: reference,
  payment: z.object({ payment_intent: optionalReference, charge: optionalReference }),
});

/** What ties a payment to its invoice, since API 2025-03 (basil). */
export interface InvoicePayment {
  invoiceId: string;
  /** Of the payment intent, else of the charge; null for money that moved outside Stripe. */
  paymentId: string | null;
}

/**
 * Reads an invoice payment. https://docs.stripe.com/api/invoice-payment/object
 *
 * @param object the JSON object
 * @returns what we keep of it
 * @throws ZodError when it is no invoice payment, or of no invoice
 */
export function readInvoicePayment(object: unknown): InvoicePayment {
  const { invoice, payment } = invoicePaymentShape.parse(object);
  return {
    invoiceId: idOf(invoice) ?? '',
    paymentId: idOf(payment.payment_intent ?? payment.charge),
  };
}
