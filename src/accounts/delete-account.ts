import type { Stripe } from 'stripe';

import { closeAtStripe, isSameCheckout } from './stop-payments.ts';
import type { PaymentParts } from './stop-payments.ts';
import { leaveTombstone } from './tombstone.ts';
import { lockVerified, verifyUser } from './verified-user.ts';
import type { Checkout, User } from '../db/generated/client.ts';
import type { Tx } from '../db/transaction.ts';
import { inTransaction } from '../db/transaction.ts';
import { queueNow } from '../outbox/queue.ts';
import { thinEvents, wholeEventsAbout } from '../stripe/event-ledger.ts';
import { isOver } from '../access/live.ts';
import { voidFirstInvoice } from '../stripe/end-payments.ts';
import { unlessGone } from '../stripe/missing.ts';
import { idOf } from '../stripe/objects/common.ts';
import { readSubscription } from '../stripe/objects/subscription-shape.ts';
import type { Products } from '../stripe/objects/subscription-shape.ts';

/** Why an account was not deleted. */
export type DeletionRefusal =
  | 'wrong-password'
  | 'payments-not-set-up'
  | 'payment-pending'
  | 'checkout-opened-meanwhile';

/** What was ended at Stripe before an account is deleted. */
export interface EndedAtStripe {
  userId: string;
  checkout: Pick<Checkout, 'id' | 'sessionId'> | null;
  customerIds: string[];
}

/**
 * Deletes a user's account (design: rule 11). It first closes their open checkout and cancels their
 * subscriptions at Stripe, and only then leaves a tombstone. If Stripe cannot be reached, nothing is deleted.
 * A subscription to another product in the same Stripe account is not ours to cancel, unless it ever counted.
 *
 * @param typed `mail`: whether a confirmation may be mailed
 * @returns why it was refused, or null when done
 * @throws StripeError when Stripe refuses or cannot be reached
 */
export async function deleteAccount(
  parts: PaymentParts,
  userId: string,
  typed: { currentPassword: string; mail: boolean },
  now: Date,
): Promise<DeletionRefusal | null> {
  const { db } = parts;
  const verified = await verifyUser(
    await db.user.findUnique({ where: { id: userId } }),
    typed.currentPassword,
  );
  if (!verified) return 'wrong-password';
  const ended = await endAtStripe(parts, userId, await closeAtStripe(parts, userId));
  if (typeof ended === 'string') return ended;
  return inTransaction(db, now, async (tx) => {
    const user = await lockVerified(tx, verified);
    if (!user) return 'wrong-password';
    if (!(await eraseAccount(tx, user, ended))) return 'checkout-opened-meanwhile';
    if (typed.mail && user.email !== null)
      await queueNow(tx, [{ kind: 'mail.account-deleted', userId, data: null, address: user.email }]);
    return null;
  });
}

/**
 * Cancels an account's subscriptions at Stripe, unless it has opened another checkout by now. This happens outside any
 * transaction, so `eraseAccount` checks that nothing was added since.
 *
 * @param checkout the one that was closed at Stripe; null when there was none
 * @throws StripeError when Stripe refuses or cannot be reached
 */
export async function endAtStripe(
  { db, stripe, products }: PaymentParts,
  userId: string,
  checkout: Checkout | null,
): Promise<EndedAtStripe | Exclude<DeletionRefusal, 'wrong-password'>> {
  const current = await db.checkout.findUnique({ where: { userId } });
  if (!isSameCheckout(current, checkout)) return 'checkout-opened-meanwhile';
  const customers = await db.customer.findMany({
    where: { userId, deletedAt: null },
    include: { subscriptions: { where: { counted: true }, select: { id: true } } },
  });
  if (customers.length > 0 && !stripe) return 'payments-not-set-up';
  if (stripe) {
    for (const customer of customers)
      if (!(await cancelAll(stripe, customer, products))) return 'payment-pending';
  }
  return { userId, checkout, customerIds: customers.map(({ id }) => id) };
}

/**
 * Deletes an account, its checkout and its payloads, unless there is more to end at Stripe by now.
 *
 * @param user locked
 * @param ended what was ended at Stripe for it; null when there was nothing
 * @returns false, with nothing changed, when there is more to end
 */
export async function eraseAccount(tx: Tx, user: User, ended: EndedAtStripe | null): Promise<boolean> {
  const { id: userId } = user;
  const before = ended?.userId === userId ? ended : null;
  const checkout = await tx.checkout.findUnique({ where: { userId } });
  const customers = await tx.customer.findMany({ where: { userId, deletedAt: null }, select: { id: true } });
  // Another tab opened a checkout, or a customer was linked: a payment could arrive for a deleted account.
  if (
    !isSameCheckout(checkout, before?.checkout) ||
    !customers.every(({ id }) => before?.customerIds.includes(id))
  ) {
    return false;
  }
  await tx.checkout.deleteMany({ where: { userId } });
  await leaveTombstone(tx, user);
  await thinPayloads(tx, userId);
  return true;
}

/**
 * Lists subscriptions at Stripe rather than in our rows, which may lag behind a recent payment. A customer or
 * subscription unknown to Stripe charges nobody, so it is skipped.
 *
 * @returns false when a bank is deciding about a first payment, so that its subscription cannot be ended yet
 */
async function cancelAll(
  stripe: Stripe,
  { id: customer, subscriptions: counted }: { id: string; subscriptions: { id: string }[] },
  products: Products,
): Promise<boolean> {
  let isPending = false;
  await unlessGone(async () => {
    for await (const listed of stripe.subscriptions.list({ customer, status: 'all', limit: 100 })) {
      const { id, state } = readSubscription(listed, products);
      const isOurs = state.counts || counted.some((one) => one.id === id);
      if (!isOurs || isOver(state.status)) continue;
      // Cancelling does not keep the bank from approving a first payment.
      const invoice = state.status === 'incomplete' ? idOf(listed.latest_invoice) : null;
      if ((await voidFirstInvoice(stripe, invoice)) === 'pending') isPending = true;
      else await unlessGone(() => stripe.subscriptions.cancel(id));
    }
  });
  return !isPending;
}

/** Bounds the payloads that are in memory at once. */
const THINNED_AT_ONCE = 500;

/** A failed event keeps its payload, so that it can be replayed. The inbox thins it when it is applied. */
async function thinPayloads(tx: Tx, userId: string): Promise<void> {
  const ids = await wholeEventsAbout(tx, userId);
  for (let from = 0; from < ids.length; from += THINNED_AT_ONCE) {
    await thinEvents(tx, { id: { in: ids.slice(from, from + THINNED_AT_ONCE) } });
  }
}
