import type { Subscription } from '../../db/generated/client.ts';
import type { Tx } from '../../db/transaction.ts';
import { applyFacts, applyRenewal } from '../apply-facts.ts';
import { lockCustomer } from '../facts/customers.ts';
import { storePaidInvoice } from '../facts/invoices.ts';
import { anyMoneyBack, storePaymentOfInvoice } from '../facts/payments.ts';
import { ensureSubscription, refreshProof } from '../facts/subscriptions.ts';
import { readInvoice } from '../stripe-shapes/invoice.ts';
import type { InvoiceFacts } from '../stripe-shapes/invoice.ts';
import { causeOf, ignored, OK } from './outcome.ts';
import type { EventHandler } from './outcome.ts';

/**
 * `invoice.paid`: the proof of payment where being active is none, or (a first invoice of zero) the sign that nothing
 * was paid. Kept even when the subscription or the user is not known yet. A renewal's changes nothing, unless the money of
 * all earlier ones went back.
 */
export const onInvoicePaid: EventHandler = async (tx, event, { clawbackDays, products }) => {
  const invoice = readInvoice(event.object);
  if (invoice.subscriptionId === null) return ignored('the invoice is of no subscription');
  if (invoice.customerId === null) return ignored('the invoice has no customer');

  const paidAt = invoice.paidAt ?? event.created;
  if (invoice.paymentId) await storePaymentOfInvoice(tx, invoice.paymentId, invoice.id);
  await storePaidInvoice(tx, invoice, paidAt);
  const customer = await lockCustomer(tx, invoice.customerId);
  const subscription = await ensureSubscription(tx, invoice.subscriptionId, customer.id, products);
  if (invoice.positive && isRenewal(subscription, paidAt) && !(await isBack(tx, invoice))) {
    if (customer.userId) await applyRenewal(tx, customer.userId, causeOf(event), clawbackDays);
    return OK;
  }
  const onProof = (await refreshProof(tx, subscription, event.created)) || (await isBack(tx, invoice));
  if (onProof && customer.userId) {
    await applyFacts(tx, customer.userId, causeOf(event), { onProof, clawbackDays });
  }
  return OK;
};

/** Where an invoice names its payment, that can be one whose refund or dispute was heard of before. */
async function isBack(tx: Tx, { id, paymentId }: InvoiceFacts): Promise<boolean> {
  return paymentId !== null && (await anyMoneyBack(tx, id));
}

/** An earlier invoice was paid already, or one of the same second: this one proves nothing new. */
function isRenewal({ firstPaidAt }: Subscription, paidAt: Date): boolean {
  return firstPaidAt !== null && firstPaidAt <= paidAt;
}
