import { follow, followRenewal } from '../../access/follow.ts';
import type { Subscription } from '../../db/generated/client.ts';
import { customerOf } from '../../access/customers.ts';
import { storePaidInvoice } from './invoices.ts';
import { anyMoneyBack, storePaymentOfInvoice } from './payments.ts';
import { ensureSubscription, refreshProof } from '../../access/subscriptions.ts';
import { readInvoice } from './invoice.ts';
import { causeOf, ignored, OK } from './handler.ts';
import type { EventHandler } from './handler.ts';

/**
 * `invoice.paid`: the proof of payment where being active is none, or (a first invoice of zero) the sign that nothing
 * was paid. Kept even when the subscription or the user is not known yet. A renewal's changes nothing, unless the money of
 * all earlier ones went back.
 */
export const onInvoicePaid: EventHandler = (event) => {
  const invoice = readInvoice(event.object);
  const { id, subscriptionId, customerId, paymentId } = invoice;
  if (subscriptionId === null) return ignored('the invoice is of no subscription');
  if (customerId === null) return ignored('the invoice has no customer');
  return {
    wants: {
      payments: paymentId === null ? [] : [paymentId],
      invoices: [id],
      customers: [customerId],
      subscriptions: [subscriptionId],
    },
    apply: (tx) => {
      const paidAt = invoice.paidAt ?? event.created;
      if (paymentId !== null) storePaymentOfInvoice(tx, paymentId, id);
      storePaidInvoice(tx, invoice, paidAt);
      const { userId } = customerOf(tx, customerId);
      const known = ensureSubscription(tx, subscriptionId, customerId);
      // Its payment can be one whose refund or dispute was heard of before.
      const isBack = anyMoneyBack(tx, id);
      const subscription = isBack ? { ...known, moneyBack: true } : known;
      tx.rows.subscriptions.set(subscriptionId, subscription);

      if (invoice.positive && isRenewal(subscription, paidAt) && !isBack) {
        if (userId !== null) followRenewal(tx, userId, causeOf(event));
        return OK;
      }
      const onProof = refreshProof(tx, subscription, event.created) || isBack;
      if (onProof && userId !== null) follow(tx, userId, causeOf(event), true);
      return OK;
    },
  };
};

/** An earlier invoice was paid already, or one of the same second: this one proves nothing new. */
function isRenewal({ firstPaidAt }: Subscription, paidAt: Date): boolean {
  return firstPaidAt !== null && firstPaidAt <= paidAt;
}
