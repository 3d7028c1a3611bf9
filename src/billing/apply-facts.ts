import type { Cause } from '../audit.ts';
import { lockUser } from '../db/lock-user.ts';
import type { Tx } from '../db/transaction.ts';
import { isReversed, reviewReferral } from '../referrals/review.ts';
import { turnedAt } from './facts/paid-time.ts';
import { subscriptionsOf } from './facts/subscriptions.ts';
import { setTier } from './grant-paid.ts';
import { anyHolds } from './money-back.ts';
import { deriveTier } from './tier.ts';
import { admitTrials } from './trials.ts';

/** What new facts may change besides the tier: a renewal brings no proof, and costs no referral look-up. */
export interface Bearing {
  /** One of them bears on the proof of payment, or on whether its money went back. */
  onProof: boolean;
  /** REFERRAL_CLAWBACK_DAYS. */
  clawbackDays: number;
}

/**
 * From facts to access: makes a user's tier what the facts say, and lets the referral follow when a new fact bears on
 * the proof of payment. The caller has stored the facts and holds the lock of the customer.
 *
 * @param tx the open transaction
 * @param userId whose facts
 * @param cause what brought the new facts
 * @param bearing what they may change
 */
export async function applyFacts(
  tx: Tx,
  userId: string,
  cause: Cause,
  { onProof, clawbackDays }: Bearing,
): Promise<void> {
  const user = await lockUser(tx, userId);
  if (!user) return;
  const subscriptions = await admitTrials(tx, user, await subscriptionsOf(tx, userId));
  const tier = deriveTier(subscriptions);
  const at = turnedAt(subscriptions, tier) ?? tx.now;
  const current = await setTier(tx, user, tier, { ...cause, at });
  if (!onProof) return;

  const proven = subscriptions.some((subscription) => subscription.provenAt !== null);
  const moneyCame = subscriptions.some((subscription) => subscription.firstPaidAt !== null);
  const holds = async (): Promise<boolean> =>
    proven && (!moneyCame || (await anyHolds(tx, userId, subscriptions, clawbackDays)));
  await reviewReferral(tx, current, { proven, holds }, cause);
}

/**
 * What a renewal changes: nothing, unless the user's conversion stands reversed. Money that came anew can restore it. The
 * caller has stored the facts and holds the lock of the customer.
 *
 * @param tx the open transaction
 * @param userId who paid
 * @param cause what brought the renewal
 * @param clawbackDays REFERRAL_CLAWBACK_DAYS
 */
export async function applyRenewal(
  tx: Tx,
  userId: string,
  cause: Cause,
  clawbackDays: number,
): Promise<void> {
  // Without the user's lock, a refund handled at the same moment could miss this renewal, and this renewal the reversal.
  await lockUser(tx, userId);
  if (await isReversed(tx, userId)) await applyFacts(tx, userId, cause, { onProof: true, clawbackDays });
}
