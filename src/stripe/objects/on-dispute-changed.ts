import { paymentOf, storeDispute } from './payments.ts';
import { reviewPayment } from '../../access/review-payment.ts';
import { readDispute } from './dispute.ts';
import { causeOf, ignored, OK } from './handler.ts';
import type { EventHandler } from './handler.ts';

/**
 * `charge.dispute.created`, `updated` and `closed`: a dispute that is lost takes the conversion back, however long it
 * took; one that is won after all gives it back.
 */
export const onDisputeChanged: EventHandler = (event) => {
  const dispute = readDispute(event.object);
  const { id, paymentId } = dispute;
  if (paymentId === null) return ignored('the dispute names no payment');
  return {
    wants: { payments: [paymentId], returned: [paymentId], disputes: [id] },
    apply: (tx) => {
      const payment = paymentOf(tx, paymentId);
      if (!storeDispute(tx, paymentId, dispute, event.created)) {
        return ignored('a later snapshot of the dispute is known');
      }
      reviewPayment(tx, payment, causeOf(event));
      return OK;
    },
  };
};
