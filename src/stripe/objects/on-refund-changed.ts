import { paymentOf, storeFailedRefund } from './payments.ts';
import { reviewPayment } from '../../access/review-payment.ts';
import type { StripeEvent } from './event.ts';
import { readRefund } from './refund.ts';
import { causeOf, ignored, OK } from './handler.ts';
import type { EventHandler } from './handler.ts';

/** What becomes of a refund whose money came back. https://docs.stripe.com/api/refunds/object#refund_object-status */
const CALLED_OFF: ReadonlySet<string> = new Set(['failed', 'canceled']);

/**
 * `refund.failed`, and `refund.updated` or `charge.refund.updated` with the status `failed` or `canceled`: the money is back
 * with us, and what the refund took back is returned.
 */
export const onRefundChanged: EventHandler = (event) => {
  const { paymentId, status } = readRefund(event.object);
  const calledOff = event.type === 'refund.failed' || CALLED_OFF.has(status ?? '');
  if (!calledOff) return ignored('a refund that stands is told by charge.refunded');
  // An update of a refund that failed long ago must not undo a refund that was made since.
  if (!tellsOfStatus(event)) return ignored('the status of the refund did not change');
  if (paymentId === null) return ignored('the refund names no payment');
  return {
    wants: { payments: [paymentId], returned: [paymentId] },
    apply: (tx) => {
      const payment = storeFailedRefund(tx, paymentOf(tx, paymentId), event.created);
      if (!payment) return ignored('a later failure is known');
      reviewPayment(tx, payment, causeOf(event));
      return OK;
    },
  };
};

/** An update that does not say what it changed counts as one of the status. */
function tellsOfStatus({ type, previousAttributes }: StripeEvent): boolean {
  const changed = Object.keys(previousAttributes);
  return type === 'refund.failed' || changed.length === 0 || changed.includes('status');
}
