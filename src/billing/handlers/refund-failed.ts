import { lockPayment, storeFailedRefund } from '../facts/payments.ts';
import { reviewPayment } from '../review-payment.ts';
import { readRefund } from '../stripe-shapes/refund.ts';
import { causeOf, ignored, OK } from './outcome.ts';
import type { EventHandler } from './outcome.ts';

/** `refund.failed`: the money is back with us, and what the refund took back is given back. */
export const onRefundFailed: EventHandler = async (tx, event, { clawbackDays }) => {
  const { paymentId } = readRefund(event.object);
  if (paymentId === null) return ignored('the refund names no payment');
  const payment = await lockPayment(tx, paymentId);
  if (!(await storeFailedRefund(tx, payment, event.created))) return ignored('a later failure is known');
  await reviewPayment(tx, payment, causeOf(event), clawbackDays);
  return OK;
};
