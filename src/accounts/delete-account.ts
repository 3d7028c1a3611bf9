import type { Stripe } from 'stripe';

import { leaveTombstone } from './tombstone.ts';
import { lockVerified, verifyUser } from './verified-user.ts';
import type { Db, Tx } from '../db/transaction.ts';
import { inTransaction } from '../db/transaction.ts';
import { expire } from '../stripe/checkout.ts';
import { thinEvents } from '../stripe/event-ledger.ts';
import { TERMINAL_STATUSES } from '../access/live.ts';
import { unlessGone } from '../stripe/missing.ts';
import { readSubscription } from '../stripe/objects/subscription-shape.ts';
import type { Products } from '../stripe/objects/subscription-shape.ts';

/** Why an account was not deleted. */
export type DeletionRefusal = 'wrong-password' | 'payments-not-set-up' | 'checkout-opened-meanwhile';

/**
 * Deletes a user's account (design: rule 11): closes their open checkout and cancels their subscriptions at Stripe, and
 * only then leaves a tombstone. A subscription to another product of the same Stripe account is not ours to cancel, unless
 * it counted when it was bought. When Stripe cannot be reached nothing is deleted.
 *
 * @param parts the database; Stripe, null when no key is configured; and the products whose subscriptions count
 * @param userId who asks
 * @param password what they typed as their password
 * @param now the instant, UTC
 * @returns why it was refused, or null when it is done
 * @throws StripeError when Stripe refuses or cannot be reached
 */
export async function deleteAccount(
  { db, stripe, products }: { db: Db; stripe: Stripe | null; products: Products },
  userId: string,
  password: string,
  now: Date,
): Promise<DeletionRefusal | null> {
  const verified = await verifyUser(await db.user.findUnique({ where: { id: userId } }), password);
  if (!verified) return 'wrong-password';
  const before = await db.checkout.findUnique({ where: { userId: userId } });
  const customers = await db.customer.findMany({
    where: { userId: userId, deletedAt: null },
    include: { subscriptions: { where: { counted: true }, select: { id: true } } },
  });
  if (customers.length > 0 && !stripe) return 'payments-not-set-up';
  if (stripe) {
    if (before?.sessionId) await expire(stripe, before.sessionId);
    for (const customer of customers) await cancelAll(stripe, customer, products);
  }
  return inTransaction(db, now, async (tx) => {
    const user = await lockVerified(tx, verified);
    if (!user) return 'wrong-password';
    const checkout = await tx.checkout.findUnique({ where: { userId: userId } });
    const linked = await tx.customer.count({ where: { userId: userId, deletedAt: null } });
    // Another tab pressed Upgrade, or a customer came to be theirs: it could be paid for an account that is gone.
    if (
      checkout?.id !== before?.id ||
      checkout?.sessionId !== before?.sessionId ||
      linked > customers.length
    ) {
      return 'checkout-opened-meanwhile';
    }
    await tx.checkout.deleteMany({ where: { userId: userId } });
    await leaveTombstone(tx, user);
    await thinPayloads(tx, userId);
    return null;
  });
}

/**
 * Asks Stripe rather than our rows: what was paid for a second ago is known there first. A customer or a subscription that
 * Stripe does not know charges nobody.
 */
async function cancelAll(
  stripe: Stripe,
  { id: customer, subscriptions: counted }: { id: string; subscriptions: { id: string }[] },
  products: Products,
): Promise<void> {
  await unlessGone(async () => {
    for await (const listed of stripe.subscriptions.list({ customer, status: 'all', limit: 100 })) {
      const { id, state } = readSubscription(listed, products);
      const isOurs = state.counts || counted.some((one) => one.id === id);
      if (isOurs && !TERMINAL_STATUSES.has(state.status))
        await unlessGone(() => stripe.subscriptions.cancel(id));
    }
  });
}

/** A failed event keeps its payload until it is applied; `prune` thins it after that. */
async function thinPayloads(tx: Tx, userId: string): Promise<void> {
  const customers = await tx.customer.findMany({ where: { userId }, select: { id: true } });
  await thinEvents(tx, { customerId: { in: customers.map(({ id }) => id) } });
}
