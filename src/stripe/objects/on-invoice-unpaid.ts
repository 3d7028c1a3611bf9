import { follow } from '../../access/follow.ts';
import { customerOf } from '../../access/customers.ts';
import { storeFailedInvoice } from './invoices.ts';
import { ensureSubscription, refreshProof } from '../../access/subscriptions.ts';
import { readInvoice } from './invoice.ts';
import { causeOf, ignored, OK } from './handler.ts';
import type { EventHandler } from './handler.ts';

/**
 * `invoice.payment_failed` and `invoice.payment_action_required`: when it is the first invoice, being active proves no
 * payment. What a failed renewal means, the subscription's own status says.
 */
export const onInvoiceUnpaid: EventHandler = (event) => {
  const invoice = readInvoice(event.object);
  const { id, subscriptionId, customerId } = invoice;
  if (subscriptionId === null) return ignored('the invoice is of no subscription');
  if (customerId === null) return ignored('the invoice has no customer');
  if (!invoice.first) return ignored("a renewal that failed shows in the subscription's status");
  return {
    wants: { invoices: [id], customers: [customerId], subscriptions: [subscriptionId] },
    apply: (tx) => {
      storeFailedInvoice(tx, invoice, event.created);
      const { userId } = customerOf(tx, customerId);
      const subscription = ensureSubscription(tx, subscriptionId, customerId);
      const onProof = refreshProof(tx, subscription, event.created);
      if (onProof && userId !== null) follow(tx, userId, causeOf(event), true);
      return OK;
    },
  };
};
