import { applyFacts } from '../apply-facts.ts';
import { lockCustomer } from '../facts/customers.ts';
import { storeFailedInvoice } from '../facts/invoices.ts';
import { ensureSubscription, refreshProof } from '../facts/subscriptions.ts';
import { readInvoice } from '../stripe-shapes/invoice.ts';
import { causeOf, ignored, OK } from './outcome.ts';
import type { EventHandler } from './outcome.ts';

/**
 * `invoice.payment_failed` and `invoice.payment_action_required`: when it is the first invoice, being active proves no
 * payment. What a failed renewal means, the subscription's own status says.
 */
export const onInvoiceUnpaid: EventHandler = async (tx, event, { clawbackDays, products }) => {
  const invoice = readInvoice(event.object);
  if (invoice.subscriptionId === null) return ignored('the invoice is of no subscription');
  if (invoice.customerId === null) return ignored('the invoice has no customer');
  if (!invoice.first) return ignored("a renewal that failed shows in the subscription's status");

  await storeFailedInvoice(tx, invoice, event.created);
  const customer = await lockCustomer(tx, invoice.customerId);
  const subscription = await ensureSubscription(tx, invoice.subscriptionId, customer.id, products);
  const onProof = await refreshProof(tx, subscription, event.created);
  if (onProof && customer.userId) {
    await applyFacts(tx, customer.userId, causeOf(event), { onProof, clawbackDays });
  }
  return OK;
};
