import { expect } from 'vitest';

import type { Sandbox } from '../../src/sandbox/sandbox.ts';
import { DAY } from '../support/server.ts';
import type { World } from '../support/stand-in.ts';

// What must be true of every user, worked out from nothing but the stand-in's own objects: none of the server's code
// and none of its facts are asked.

type Objects = Sandbox['objects'];
type Subscription = Objects['subscriptions'] extends ReadonlyMap<string, infer T> ? T : never;
type Invoice = Objects['invoices'] extends ReadonlyMap<string, infer T> ? T : never;

function invoicesOf({ invoices }: Objects, subscriptions: readonly Subscription[]): Invoice[] {
  const ids = new Set(subscriptions.map(({ id }) => id));
  return [...invoices.values()]
    .filter((invoice) => ids.has(invoice.parent.subscription_details.subscription))
    .filter((invoice) => invoice.status === 'paid' && invoice.amount_paid > 0);
}

function paidAt(invoice: Invoice): number {
  return invoice.status_transitions.paid_at ?? 0;
}

/** Every payment of it went back, in full and in time, and none of that was called off. */
function isMoneyBack(objects: Objects, invoice: Invoice, clawbackDays: number): boolean {
  const inTime = (at: number): boolean => at - paidAt(invoice) <= clawbackDays * DAY;
  const payments = [...objects.invoicePayments.values()].filter(
    (one) => one.invoice === invoice.id && one.status === 'paid',
  );
  const isBack = (intent: string): boolean => {
    const charge = [...objects.charges.values()].find(
      (one) => one.payment_intent === intent && one.status === 'succeeded',
    );
    const refunds = [...objects.refunds.values()].filter(
      (one) => one.payment_intent === intent && one.status === 'succeeded',
    );
    const fullAt = Math.max(...refunds.map(({ created }) => created));
    // Lost, and not won since: an appeal has decided nothing yet.
    const lost = [...objects.disputes.values()].some(
      (one) =>
        one.payment_intent === intent &&
        ['lost', 'appeal_under_review'].includes(one.status) &&
        inTime(one.created),
    );
    return (charge?.refunded === true && inTime(fullAt)) || lost;
  };
  return payments.length > 0 && payments.every(({ payment }) => isBack(payment.payment_intent));
}

/** It is a subscription to what the server sells, or the server sells everything. */
function isOurs(subscription: Subscription, products: readonly string[] | null): boolean {
  return products === null || subscription.items.data.some(({ price }) => products.includes(price.product));
}

function tierOf(objects: Objects, subscriptions: readonly Subscription[]): string {
  const isPaid = (one: Subscription): boolean =>
    one.status === 'active' || (one.status === 'past_due' && invoicesOf(objects, [one]).length > 0);
  if (subscriptions.some(isPaid)) return 'paid';
  return subscriptions.some(({ status }) => status === 'trialing') ? 'trial' : 'free';
}

/** Holds every user, and every referral of a living one, against what Stripe's side says. */
export async function expectTruth({ db, sandbox, config }: World): Promise<void> {
  const { objects } = sandbox;
  const users = await db.user.findMany({ include: { customers: true, referredBy: true } });
  for (const user of users) {
    const customers = new Set(user.customers.map(({ id }) => id));
    // No plan here ever changes from one product to another: what counts now is what counted once.
    const subscriptions = [...objects.subscriptions.values()].filter(
      (one) => customers.has(one.customer) && isOurs(one, config.stripe.products),
    );
    expect([user.id, user.tier]).toEqual([user.id, tierOf(objects, subscriptions)]);

    if (!user.referredBy || user.deletedAt) continue;
    const holds = invoicesOf(objects, subscriptions).some(
      (invoice) => !isMoneyBack(objects, invoice, config.clawbackDays),
    );
    const { convertedAt, reversedAt } = user.referredBy;
    expect([user.id, convertedAt !== null && reversedAt === null]).toEqual([user.id, holds]);
  }
}
