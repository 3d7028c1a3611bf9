import type { Stripe } from 'stripe';

import { isOver } from '../access/live.ts';
import type { Checkout, User } from '../db/generated/client.ts';
import type { Db, Tx } from '../db/transaction.ts';
import { inTransaction } from '../db/transaction.ts';
import { voidFirstInvoice } from '../stripe/end-payments.ts';
import { thinEventsAbout, thinSomeEventsAbout } from '../stripe/event-ledger.ts';
import { unlessGone } from '../stripe/missing.ts';
import { idOf } from '../stripe/objects/common.ts';
import { readSubscription } from '../stripe/objects/subscription-shape.ts';
import type { Products } from '../stripe/objects/subscription-shape.ts';
import { queueMail } from './mail-limit.ts';
import { expireOpenCheckout, isSameCheckout } from './stop-payments.ts';
import type { PaymentParts } from './stop-payments.ts';
import { leaveTombstone } from './tombstone.ts';
import { lockVerified, verifyUser } from './verified-user.ts';

/** Why an account was not deleted. */
export type DeletionRefusal = 'wrong-password' | 'account-changed' | CancellationRefusal;

/**
 * Why an account's subscriptions were not cancelled. `conflict`: a checkout was opened, a customer was linked, or the account
 * was claimed in the meantime.
 */
export type CancellationRefusal = 'payments-not-set-up' | 'payment-pending' | 'conflict';

/** What was ended at Stripe before an account is deleted. */
export interface EndedAtStripe {
  userId: string;
  checkout: Pick<Checkout, 'id' | 'sessionId'> | null;
  customerIds: string[];
  /** The subscriptions that were cancelled, and their customers. We may not have heard of them yet. */
  subscriptions: { id: string; customerId: string }[];
}

/**
 * Deletes a user's account (design: rule 11). It first closes their open checkout and cancels their
 * subscriptions at Stripe, and only then leaves a tombstone. If Stripe cannot be reached, nothing is deleted.
 * A subscription to another product in the same Stripe account is not ours to cancel, unless it ever counted.
 *
 * @param typed `mail`: whether mail is on. If so, the user is notified, unless `queueMail` refuses
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
  const found = await db.user.findUniqueOrThrow({ where: { id: userId } });
  // The first request of a double click has deleted it.
  if (found.deletedAt) return null;
  const verified = await verifyUser(found, typed.currentPassword);
  if (!verified) return 'wrong-password';
  const checkout = await expireOpenCheckout(parts, userId);
  if (checkout === 'being-paid') return 'payment-pending';
  const ended = await cancelSubscriptions(parts, userId, checkout);
  if (typeof ended === 'string') {
    // The first request of a double click may have deleted it while we asked Stripe.
    const { deletedAt } = await db.user.findUniqueOrThrow({ where: { id: userId } });
    return deletedAt ? null : ended;
  }
  const refusal = await inTransaction(db, now, async (tx): Promise<DeletionRefusal | null> => {
    const user = await lockVerified(tx, verified);
    if (!user) {
      const { deletedAt } = await tx.user.findUniqueOrThrow({ where: { id: userId } });
      // Deleted by a double click, or the password was changed or the account shut out while we asked Stripe.
      return deletedAt ? null : 'account-changed';
    }
    if (!(await eraseAccount(tx, user, ended))) return 'conflict';
    if (typed.mail && user.email !== null)
      await queueMail(tx, user, { kind: 'mail.account-deleted', data: null, address: user.email });
    return null;
  });
  if (refusal === null) await thinRest(db, userId, now);
  return refusal;
}

/**
 * Thins the payloads that `eraseAccount` left, after its commit. It never fails the request: the account is deleted,
 * and `prune` thins the rest.
 */
export async function thinRest(db: Db, userId: string, now: Date): Promise<void> {
  try {
    await thinEventsAbout(db, userId, now);
  } catch (error) {
    process.emitWarning(error instanceof Error ? error : String(error));
  }
}

/**
 * Cancels an account's subscriptions at Stripe, unless it has opened another checkout by now. This happens outside any
 * transaction, so `eraseAccount` checks that nothing has been added since.
 *
 * @param checkout the account's checkout when it was closed at Stripe; null when it had none
 * @throws StripeError when Stripe refuses or cannot be reached
 */
export async function cancelSubscriptions(
  { db, stripe, programme: { products } }: PaymentParts,
  userId: string,
  checkout: Checkout | null,
): Promise<EndedAtStripe | CancellationRefusal> {
  const current = await db.checkout.findUnique({ where: { userId } });
  if (!isSameCheckout(current, checkout)) return 'conflict';
  const customers = await db.customer.findMany({
    where: { userId, deletedAt: null },
    include: { subscriptions: { where: { counted: true }, select: { id: true } } },
  });
  if (customers.length > 0 && !stripe) return 'payments-not-set-up';
  const toEnd: ToEnd[] = [];
  if (stripe) {
    for (const customer of customers) toEnd.push(...(await listToEnd(stripe, customer, products)));
    // Void every first payment that awaits approval before cancelling anything: cancelling does not keep the bank from
    // approving one, and a deletion that is refused here must leave the plan as it is.
    for (const { firstInvoice } of toEnd)
      if ((await voidFirstInvoice(stripe, firstInvoice)) === 'pending') return 'payment-pending';
    for (const { id } of toEnd) await unlessGone(() => stripe.subscriptions.cancel(id));
  }
  return {
    userId,
    checkout,
    customerIds: customers.map(({ id }) => id),
    subscriptions: toEnd.map(({ id, customerId }) => ({ id, customerId })),
  };
}

/**
 * Whether an account by now has a checkout or a customer that `ended` does not cover: another tab opened the checkout, or
 * the customer was linked, and a payment could arrive for an account that is deleted or emptied.
 *
 * @param tx holds the user's lock
 * @param ended null when nothing was ended at Stripe
 */
export async function hasMoreToEnd(tx: Tx, userId: string, ended: EndedAtStripe | null): Promise<boolean> {
  const before = ended?.userId === userId ? ended : null;
  const checkout = await tx.checkout.findUnique({ where: { userId } });
  if (!isSameCheckout(checkout, before?.checkout)) return true;
  const customers = await tx.customer.findMany({ where: { userId, deletedAt: null }, select: { id: true } });
  return !customers.every(({ id }) => before?.customerIds.includes(id));
}

/**
 * Turns an account into a tombstone, deletes its checkout and begins to thin its events' payloads, unless there is more
 * to end at Stripe by now. Call `thinRest` after the commit.
 *
 * @param user locked
 * @param ended what was ended at Stripe for it; null when there was nothing
 * @returns false, with nothing changed, when there is more to end
 */
export async function eraseAccount(tx: Tx, user: User, ended: EndedAtStripe | null): Promise<boolean> {
  const { id: userId } = user;
  if (await hasMoreToEnd(tx, userId, ended)) return false;
  await tx.checkout.deleteMany({ where: { userId } });
  await leaveTombstone(tx, user);
  await thinSomeEventsAbout(tx, userId);
  return true;
}

/** A subscription that ends before an account is deleted. */
interface ToEnd {
  id: string;
  customerId: string;
  /** The invoice of its first payment, which awaits the bank's approval; null when there is none. */
  firstInvoice: string | null;
}

/**
 * Lists a customer's subscriptions at Stripe rather than in our rows, which may lag behind a recent payment. Stripe leaves
 * out canceled ones when the request names no status. A customer unknown to Stripe has none.
 */
async function listToEnd(
  stripe: Stripe,
  { id: customer, subscriptions: counted }: { id: string; subscriptions: { id: string }[] },
  products: Products,
): Promise<ToEnd[]> {
  const toEnd: ToEnd[] = [];
  await unlessGone(async () => {
    for await (const listed of stripe.subscriptions.list({ customer, limit: 100 })) {
      const { id, state } = readSubscription(listed, products);
      const isOurs = state.counts || counted.some((one) => one.id === id);
      if (!isOurs || isOver(state.status)) continue;
      const firstInvoice = state.status === 'incomplete' ? idOf(listed.latest_invoice) : null;
      toEnd.push({ id, customerId: customer, firstInvoice });
    }
  });
  return toEnd;
}
