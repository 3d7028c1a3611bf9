import { invoiceOf } from './invoices.ts';
import { anyMoneyBack, storePaymentOfInvoice } from './payments.ts';
import { reviewPayment } from '../../access/review-payment.ts';
import { readInvoicePayment } from './invoice-payment.ts';
import { causeOf, ignored, OK } from './handler.ts';
import type { EventHandler } from './handler.ts';

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
      if (anyMoneyBack(tx, invoiceId)) reviewPayment(tx, payment, causeOf(event));
      return OK;
    },
  };
};
