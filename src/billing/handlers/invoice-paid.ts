import { applyFacts } from '../apply-facts.ts';
import { lockCustomer } from '../facts/customers.ts';
import { lockInvoice, storePaidInvoice } from '../facts/invoices.ts';
import { ensureSubscription, refreshProof } from '../facts/subscriptions.ts';
import { readPaidInvoice } from '../stripe-shapes/invoice.ts';
import { causeOf, ignored, OK } from './outcome.ts';
import type { EventHandler } from './outcome.ts';

/**
 * `invoice.paid`: the proof of payment where being active is none, or (a first invoice of zero) the sign that nothing
 * was paid. Kept even when the subscription or the user is not known yet. A renewal's changes nothing.
 */
export const onInvoicePaid: EventHandler = async (tx, event) => {
  const invoice = readPaidInvoice(event.object);
  if (invoice.subscriptionId === null) return ignored('the invoice is of no subscription');
  if (invoice.customerId === null) return ignored('the invoice has no customer');

  await lockInvoice(tx, invoice.id);
  const customer = await lockCustomer(tx, invoice.customerId);
  const subscription = await ensureSubscription(tx, invoice.subscriptionId, customer.id);
  await storePaidInvoice(tx, invoice, invoice.paidAt ?? event.created);

  const canChangeProof = subscription.provenAt === null || !invoice.positive;
  const bearsOnProof = canChangeProof && (await refreshProof(tx, subscription.id));
  if (bearsOnProof && customer.userId) await applyFacts(tx, customer.userId, causeOf(event), true);
  return OK;
};
