import { lockPayment, storeDispute } from '../facts/payments.ts';
import { reviewPayment } from '../review-payment.ts';
import { readDispute } from '../stripe-shapes/dispute.ts';
import { causeOf, ignored, OK } from './outcome.ts';
import type { EventHandler } from './outcome.ts';

/**
 * `charge.dispute.created`, `updated` and `closed`: a dispute that is lost takes the conversion back, however long it
 * took; one that is won after all gives it back.
 */
export const onDisputeChanged: EventHandler = async (tx, event, { clawbackDays }) => {
  const dispute = readDispute(event.object);
  if (dispute.paymentId === null) return ignored('the dispute names no payment');
  const payment = await lockPayment(tx, dispute.paymentId);
  if (!(await storeDispute(tx, payment.id, dispute, event.created))) {
    return ignored('a later snapshot of the dispute is known');
  }
  await reviewPayment(tx, payment, causeOf(event), clawbackDays);
  return OK;
};
