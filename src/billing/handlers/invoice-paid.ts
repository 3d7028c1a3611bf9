import type { Subscription } from '../../db/generated/client.ts';
import { applyFacts } from '../apply-facts.ts';
import { lockCustomer } from '../facts/customers.ts';
import { storePaidInvoice } from '../facts/invoices.ts';
import { storePaymentOfInvoice } from '../facts/payments.ts';
import { ensureSubscription, refreshProof } from '../facts/subscriptions.ts';
import { readInvoice } from '../stripe-shapes/invoice.ts';
import { causeOf, ignored, OK } from './outcome.ts';
import type { EventHandler } from './outcome.ts';

/**
 * `invoice.paid`: the proof of payment where being active is none, or (a first invoice of zero) the sign that nothing
 * was paid. Kept even when the subscription or the user is not known yet. A renewal's changes nothing.
 */
export const onInvoicePaid: EventHandler = async (tx, event, { clawbackDays }) => {
  const invoice = readInvoice(event.object);
  if (invoice.subscriptionId === null) return ignored('the invoice is of no subscription');
  if (invoice.customerId === null) return ignored('the invoice has no customer');

  const paidAt = invoice.paidAt ?? event.created;
  if (invoice.paymentId) await storePaymentOfInvoice(tx, invoice.paymentId, invoice.id);
  await storePaidInvoice(tx, invoice, paidAt);
  const customer = await lockCustomer(tx, invoice.customerId);
  const subscription = await ensureSubscription(tx, invoice.subscriptionId, customer.id);
  if (invoice.positive && isRenewal(subscription, paidAt)) return OK;

  const onProof = (await refreshProof(tx, subscription)) || isOfTheSameSecond(subscription, paidAt);
  if (onProof && customer.userId) {
    await applyFacts(tx, customer.userId, causeOf(event), { onProof, clawbackDays });
  }
  return OK;
};

/** An earlier invoice was paid already: this one proves nothing new, and is not the first payment. */
function isRenewal({ firstPaidAt }: Subscription, paidAt: Date): boolean {
  return firstPaidAt !== null && firstPaidAt < paidAt;
}

/** Of two first payments in one second the ids say which was earlier: the other one may come second. */
function isOfTheSameSecond({ firstPaidAt }: Subscription, paidAt: Date): boolean {
  return firstPaidAt?.getTime() === paidAt.getTime();
}
