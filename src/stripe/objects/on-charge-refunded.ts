import { paymentOf, storeFullRefund, storePaymentOfInvoice } from './payments.ts';
import { reviewPayment } from '../../access/review-payment.ts';
import { readCharge } from './charge.ts';
import { causeOf, ignored, OK } from './handler.ts';
import type { EventHandler } from './handler.ts';

/** `charge.refunded`: a full refund of the payment that converted takes the conversion back. A partial one does nothing. */
export const onChargeRefunded: EventHandler = (event) => {
  const { paymentId, invoiceId, refundedInFull } = readCharge(event.object);
  if (!refundedInFull) return ignored('a partial refund takes nothing back');
  return {
    wants: { payments: [paymentId], returned: [paymentId], invoices: invoiceId === null ? [] : [invoiceId] },
    apply: (tx) => {
      const known =
        invoiceId === null ? paymentOf(tx, paymentId) : storePaymentOfInvoice(tx, paymentId, invoiceId);
      const payment = storeFullRefund(tx, known, event.created);
      if (!payment) return ignored('this refund is known');
      reviewPayment(tx, payment, causeOf(event));
      return OK;
    },
  };
};
