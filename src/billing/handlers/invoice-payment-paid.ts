import { lockInvoice } from '../facts/invoices.ts';
import { anyMoneyBack, storePaymentOfInvoice } from '../facts/payments.ts';
import { readInvoicePayment } from '../stripe-shapes/invoice-payment.ts';
import { reviewPayment } from '../review-payment.ts';
import { causeOf, ignored, OK } from './outcome.ts';
import type { EventHandler } from './outcome.ts';

/**
 * `invoice_payment.paid`: since API 2025-03 (basil) the one place where an invoice and its payment meet. A refund or a
 * dispute of that payment, heard of before, takes effect now.
 */
export const onInvoicePaymentPaid: EventHandler = async (tx, event, { clawbackDays }) => {
  const { paymentId, invoiceId } = readInvoicePayment(event.object);
  if (paymentId === null) return ignored('the money moved outside Stripe, and cannot come back through it');
  const payment = await storePaymentOfInvoice(tx, paymentId, invoiceId);
  await lockInvoice(tx, invoiceId);
  if (await anyMoneyBack(tx, invoiceId)) await reviewPayment(tx, payment, causeOf(event), clawbackDays);
  return OK;
};
