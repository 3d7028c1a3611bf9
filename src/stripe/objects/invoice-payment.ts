import * as z from 'zod';

import { followMoney } from '../../access/follow.ts';
import { anyMoneyBack, invoiceOf, storePaymentOfInvoice } from '../../access/payments.ts';
import { idOf, optionalReference, reference, text } from './common.ts';
import { causeOf, ignored, OK } from './handler.ts';
import type { EventHandler } from './handler.ts';

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

/**
 * `invoice_payment.paid`: since API 2025-03 (basil) the one place where an invoice and its payment meet. A refund or a
 * dispute of that payment, heard of before, takes effect now.
 */
export const onInvoicePaymentPaid: EventHandler = (event) => {
  const { paymentId, invoiceId } = readInvoicePayment(event.object);
  if (paymentId === null) return ignored('the money moved outside Stripe, and cannot come back through it');
  return {
    wants: { payments: [paymentId], invoices: [invoiceId] },
    apply: (tx) => {
      const payment = storePaymentOfInvoice(tx, paymentId, invoiceId);
      invoiceOf(tx, invoiceId);
      if (anyMoneyBack(tx, invoiceId)) followMoney(tx, payment, causeOf(event));
      return OK;
    },
  };
};
