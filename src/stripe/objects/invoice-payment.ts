import * as z from 'zod';

import { followMoney } from '../../access/follow.ts';
import { anyMoneyBack, storePaymentOfInvoice } from '../../access/payments.ts';
import { idOf, optionalReference, reference, text } from './common.ts';
import { causeOf, ignored, OK } from './handler.ts';
import type { EventHandler } from './handler.ts';

export const invoicePaymentShape = z.object({
  id: text,
  invoice: reference,
  payment: z.object({ payment_intent: optionalReference, charge: optionalReference }),
});

/** The link between a payment and its invoice, since API 2025-03 (basil). */
export interface InvoicePayment {
  invoiceId: string;
  /**
   * The payment intent's id, or the charge's if it has no payment intent; null when the invoice was paid outside
   * Stripe.
   */
  paymentId: string | null;
}

/**
 * Reads an invoice payment. https://docs.stripe.com/api/invoice-payment/object
 *
 * @throws ZodError when the object is not an invoice payment
 */
export function readInvoicePayment(object: unknown): InvoicePayment {
  const { invoice, payment } = invoicePaymentShape.parse(object);
  return {
    invoiceId: idOf(invoice) ?? '',
    paymentId: idOf(payment.payment_intent ?? payment.charge),
  };
}

/**
 * `invoice_payment.paid`: since API 2025-03 (basil) the only place where an invoice and its payment meet. A refund or
 * dispute of the payment that came earlier takes effect now.
 */
export const onInvoicePaymentPaid: EventHandler = (event) => {
  const { paymentId, invoiceId } = readInvoicePayment(event.object);
  if (paymentId === null) return ignored('the invoice was paid outside Stripe, so Stripe cannot refund it');
  return {
    wants: { payments: [paymentId], invoices: [invoiceId] },
    apply: (tx) => {
      const payment = storePaymentOfInvoice(tx, paymentId, invoiceId);
      if (anyMoneyBack(tx, invoiceId)) followMoney(tx, payment, causeOf(event));
      return OK;
    },
  };
};
