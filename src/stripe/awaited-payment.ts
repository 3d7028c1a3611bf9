import { Stripe } from 'stripe';

import type { Subscription } from '../db/generated/client.ts';
import type { Db } from '../db/transaction.ts';
import { secondsBetween } from '../instants.ts';
import { isNotOver } from './checkout.ts';

/** A webhook usually takes seconds. After this long, s, waiting for it is no use to a person. */
const PATIENCE_SECONDS = 120;

/** How long Stripe may take to tell, ms: somebody waits for their page. */
const TIMEOUT_MS = 5_000;

/**
 * `none`: nothing was paid. `waiting`: a payment was made, and its webhook is on its way. `late`: it has been on its way
 * for two minutes. `unknown`: Stripe did not answer.
 */
export type AwaitedPayment = 'none' | 'waiting' | 'late' | 'unknown';

/**
 * Asks Stripe about a user's last checkout: only Stripe knows of a payment before its webhook arrives.
 *
 * @param parts the database, and Stripe; null when no key is configured
 * @param userId whose
 * @param subscriptions those of theirs that we have heard of
 * @param now the instant, UTC
 */
export async function findAwaitedPayment(
  { db, stripe }: { db: Db; stripe: Stripe | null },
  userId: string,
  subscriptions: readonly Pick<Subscription, 'id' | 'status'>[],
  now: Date,
): Promise<AwaitedPayment> {
  const checkout = await db.checkout.findUnique({ where: { userId } });
  if (!stripe || !checkout?.sessionId) return 'none';
  try {
    const { status, subscription } = await stripe.checkout.sessions.retrieve(
      checkout.sessionId,
      { expand: ['subscription'] },
      { timeout: TIMEOUT_MS, maxNetworkRetries: 0 },
    );
    if (status !== 'complete' || subscription === null || !isNotOver(subscription)) return 'none';
    const { id, created } =
      typeof subscription === 'string' ? { id: subscription, created: null } : subscription;
    if (subscriptions.some((known) => known.id === id && known.status !== null)) return 'none';
    const paidAt = created === null ? checkout.createdAt : new Date(created * 1000);
    return secondsBetween(paidAt, now) < PATIENCE_SECONDS ? 'waiting' : 'late';
  } catch (error) {
    // Stripe does not know the session: of another mode, or in a copied database.
    if (error instanceof Stripe.errors.StripeInvalidRequestError) return 'none';
    if (error instanceof Stripe.errors.StripeError) return 'unknown';
    throw error;
  }
}
