import { lockPayment, storeFullRefund, storePaymentOfInvoice } from '../facts/payments.ts';
import { reviewPayment } from '../review-payment.ts';
import { readCharge } from '../stripe-shapes/charge.ts';
import { causeOf, ignored, OK } from './outcome.ts';
import type { EventHandler } from './outcome.ts';

/** `charge.refunded`: a full refund of the payment that converted takes the conversion back. A partial one does nothing. */
export const onChargeRefunded: EventHandler = async (tx, event, { clawbackDays }) => {
  const { paymentId, invoiceId, refundedInFull } = readCharge(event.object);
  if (!refundedInFull) return ignored('a partial refund takes nothing back');
  const payment = invoiceId
    ? await storePaymentOfInvoice(tx, paymentId, invoiceId)
    : await lockPayment(tx, paymentId);
  if (!(await storeFullRefund(tx, payment, event.created))) return ignored('this refund is known');
  await reviewPayment(tx, payment, causeOf(event), clawbackDays);
  return OK;
};
