import { Stripe } from 'stripe';

import type { Subscription } from '../db/generated/client.ts';
import type { Db } from '../db/transaction.ts';
import { secondsBetween } from '../instants.ts';
import { isUnderWay } from './checkout.ts';

/**
 * A webhook usually arrives within seconds. After this many seconds, Settings stops reloading itself and says what to
 * do.
 */
const PATIENCE_SECONDS = 120;

/** How long Stripe may take to answer while a page waits, ms. */
const TIMEOUT_MS = 5_000;

/**
 * `none`: nothing is awaited. `waiting`: the checkout was completed and its webhook is still to come. `late`: the same,
 * PATIENCE_SECONDS or more after its completion. `unknown`: Stripe did not answer, or the rate limit for asking it is
 * reached.
 */
export type AwaitedPayment = 'none' | 'waiting' | 'late' | 'unknown';

/**
 * Asks Stripe about a user's last checkout, because only Stripe knows of a payment before its webhook arrives.
 *
 * @param parts `stripe` is null when no key is configured; `mayAsk` takes one request from the rate limit, and
 *   resolves to false when none is left
 * @param subscriptions the user's subscriptions that we know
 */
export async function findAwaitedPayment(
  { db, stripe, mayAsk }: { db: Db; stripe: Stripe | null; mayAsk: () => Promise<boolean> },
  userId: string,
  subscriptions: readonly Pick<Subscription, 'id' | 'status'>[],
  now: Date,
): Promise<AwaitedPayment> {
  const checkout = await db.checkout.findUnique({ where: { userId } });
  if (!stripe || !checkout?.sessionId) return 'none';
  if (!(await mayAsk())) return 'unknown';
  try {
    const { status, subscription } = await stripe.checkout.sessions.retrieve(
      checkout.sessionId,
      { expand: ['subscription'] },
      { timeout: TIMEOUT_MS, maxNetworkRetries: 0 },
    );
    if (status !== 'complete' || !isUnderWay(subscription)) return 'none';
    const { id, created } =
      typeof subscription === 'string' ? { id: subscription, created: null } : subscription;
    if (subscriptions.some((known) => known.id === id && known.status !== null)) return 'none';
    const paidAt = created === null ? checkout.createdAt : new Date(created * 1000);
    return secondsBetween(paidAt, now) < PATIENCE_SECONDS ? 'waiting' : 'late';
  } catch (error) {
    // Stripe does not know the session: it belongs to the other mode, or the database was copied.
    if (error instanceof Stripe.errors.StripeInvalidRequestError) return 'none';
    if (error instanceof Stripe.errors.StripeError) return 'unknown';
    throw error;
  }
}
