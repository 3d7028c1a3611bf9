import type { Stripe } from 'stripe';

import type { Db } from '../db/transaction.ts';
import { unlessGone } from './missing.ts';

/**
 * Moves what Stripe owes a user's retired customers (credit for unused time, say) to the customer that the next plan is
 * sold to, so that its first invoice uses it. The keys name both customers: after a failure, the same request again moves
 * nothing twice. https://docs.stripe.com/billing/customer/balance
 *
 * @param to Stripe's id of the new customer
 * @throws StripeError when Stripe refuses or cannot be reached
 */
export async function carryBalances(db: Db, stripe: Stripe, userId: string, to: string): Promise<void> {
  const retired = await db.customer.findMany({
    where: { userId, deletedAt: null, missingAt: null, retiredAt: { not: null } },
    select: { id: true },
    orderBy: { id: 'asc' },
  });
  for (const { id: from } of retired) {
    const customer = await unlessGone(() => stripe.customers.retrieve(from));
    // A negative balance is credit.
    if (!customer || customer.deleted || customer.balance >= 0 || !customer.currency) continue;
    const { balance, currency } = customer;
    const add = (one: string, amount: number) =>
      stripe.customers.createBalanceTransaction(
        one,
        { amount, currency },
        { idempotencyKey: `balance-of-${from}-to-${to}-${amount}` },
      );
    await add(to, balance);
    await add(from, -balance);
  }
}
