import { lockUser } from '../db/lock-user.ts';
import type { Tx } from '../db/transaction.ts';
import { reviewReferral } from '../referrals/review.ts';
import { setTier } from './grant-paid.ts';
import type { TierCause } from './grant-paid.ts';
import { deriveTier } from './tier.ts';

/**
 * From facts to access: makes a user's tier what the facts say, and lets the referral follow when a new fact bears on
 * the proof of payment. The caller has stored the facts and holds the lock of the customer.
 *
 * @param tx the open transaction
 * @param userId whose facts
 * @param cause what brought the new facts
 * @param bearsOnProof whether one of them bears on the proof; a renewal brings none and costs no referral look-up
 */
export async function applyFacts(
  tx: Tx,
  userId: string,
  cause: TierCause,
  bearsOnProof: boolean,
): Promise<void> {
  const user = await lockUser(tx, userId);
  if (!user) return;
  const subscriptions = await tx.subscription.findMany({
    where: { customer: { userId } },
    select: { status: true, provenAt: true },
  });
  const current = await setTier(tx, user, deriveTier(subscriptions), cause);
  if (bearsOnProof) {
    await reviewReferral(
      tx,
      current,
      subscriptions.some((subscription) => subscription.provenAt !== null),
      cause,
    );
  }
}
