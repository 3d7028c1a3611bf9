import type { Stripe } from 'stripe';

import type { Checkout } from '../db/generated/client.ts';
import type { Db } from '../db/transaction.ts';
import type { Programme } from '../programme.ts';
import { endUnfinished, expire } from '../stripe/end-payments.ts';
import { hasPaidAtStripe } from '../stripe/has-paid.ts';

/** The database, Stripe, and the settings that rules depend on. */
export interface PaymentParts {
  db: Db;
  /** Null when no key is configured. */
  stripe: Stripe | null;
  programme: Programme;
}

/** What Stripe says of an account's payments. */
export interface StoppedPayments {
  /**
   * The account's checkout as it was read; null when there was none. If it had a session, and a key is configured, the
   * session can no longer be completed. Null, too, if Stripe does not close the session; `state` is `pending` then.
   */
  checkout: Checkout | null;
  /**
   * `paid`: somebody has paid, though we may not have heard of it yet. `pending`: a first payment is being made, or
   * still awaits its bank's approval.
   */
  state: 'none' | 'pending' | 'paid';
}

/**
 * Closes an account's open checkout and ends first payments that await a bank's approval, and only then asks whether
 * anybody has paid: before an account is emptied or deleted for somebody else, it must be impossible to pay for it.
 * Another checkout can be opened afterwards, so compare the account's checkout with this one again, under the user's
 * lock.
 *
 * @throws StripeError when Stripe cannot be reached, or an object exists only in the other mode
 */
export async function stopPayments(parts: PaymentParts, userId: string): Promise<StoppedPayments> {
  const { db, stripe, programme } = parts;
  const checkout = await expireOpenCheckout(parts, userId);
  if (checkout === 'being-paid') return { checkout: null, state: 'pending' };
  if (!stripe) return { checkout, state: 'none' };
  const customers = await db.customer.findMany({ where: { userId, deletedAt: null }, select: { id: true } });
  let isPending = false;
  for (const { id } of customers) {
    if ((await endUnfinished(stripe, id, programme.products)) === 'pending') isPending = true;
  }
  const isPaid = await hasPaidAtStripe(parts, userId);
  return { checkout, state: isPaid ? 'paid' : isPending ? 'pending' : 'none' };
}

/**
 * Closes an account's open checkout at Stripe, so that it can no longer be completed.
 *
 * @returns the checkout as it was read, or null when there is none; `being-paid` when Stripe does not close it
 * @throws StripeError when Stripe cannot be reached, or the session exists only in the other mode
 */
export async function expireOpenCheckout(
  { db, stripe }: Pick<PaymentParts, 'db' | 'stripe'>,
  userId: string,
): Promise<Checkout | null | 'being-paid'> {
  const checkout = await db.checkout.findUnique({ where: { userId } });
  const isClosed = !stripe || !checkout?.sessionId || (await expire(stripe, checkout.sessionId));
  return isClosed ? checkout : 'being-paid';
}

/** Whether two reads of an account's checkout found the same session, or none. */
export function isSameCheckout(
  one: Pick<Checkout, 'id' | 'sessionId'> | null | undefined,
  other: Pick<Checkout, 'id' | 'sessionId'> | null | undefined,
): boolean {
  return one?.id === other?.id && one?.sessionId === other?.sessionId;
}

/** Attempts before giving up. */
const MAX_TRIES = 3;

/**
 * Retries when what an attempt had read changed before it took its locks: a checkout or a customer was added, the
 * address went to another account, or the account was claimed.
 */
export async function retryOnConflict<Outcome>(attempt: () => Promise<Outcome>): Promise<Outcome> {
  let outcome = await attempt();
  for (let tries = 1; outcome === 'conflict' && tries < MAX_TRIES; tries += 1) outcome = await attempt();
  return outcome;
}
