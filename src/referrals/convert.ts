import { grantConversionCredit } from '../credits/ledger.ts';
import type { Referral, User } from '../db/generated/client.ts';
import { lockUser } from '../db/lock-user.ts';
import type { Tx } from '../db/transaction.ts';
import { DAY_SECONDS } from '../instants.ts';
import { conversions } from '../metrics.ts';

/** What a conversion grants to each side, days. */
export const REFERRAL_CREDIT_DAYS = 45;

/**
 * The one moment a referral pays out (design: rule 2): stamps it, and grants `REFERRAL_CREDIT_DAYS` to the buyer
 * and to the referrer. Safe to call again: a stamped referral is returned as it is. A referrer who is gone is
 * skipped, and the buyer is credited all the same.
 *
 * @param tx the open transaction
 * @param user the buyer, locked, whose payment is proven
 * @returns the referral, or null when the user was referred by nobody or is gone
 */
export async function convertReferral(tx: Tx, user: User): Promise<Referral | null> {
  const referral = user.deletedAt ? null : await claim(tx, user.id);
  if (!referral) return tx.referral.findUnique({ where: { referredId: user.id } });

  const referrer = await lockReferrer(tx, referral);
  const cause = { id: referral.id, actor: 'stripe' } as const;
  const seconds = REFERRAL_CREDIT_DAYS * DAY_SECONDS;
  await grantConversionCredit(tx, referrer ? [user, referrer] : [user], seconds, cause, referral.id);
  tx.afterCommit(() => {
    conversions.inc();
  });
  return referral;
}

/** Stamps the user's referral, if there is one that is not stamped yet. */
async function claim(tx: Tx, referredId: string): Promise<Referral | null> {
  const [referral] = await tx.$queryRaw<Referral[]>`
    UPDATE "Referral" SET "convertedAt" = ${tx.now}, "creditedAt" = ${tx.now}
    WHERE "referredId" = ${referredId} AND "convertedAt" IS NULL RETURNING *`;
  return referral ?? null;
}

/**
 * @param tx the open transaction, which holds the lock of the referred user
 * @param referral whose referrer
 * @returns the referrer, locked; null when there is none any more, or only their tombstone
 */
export async function lockReferrer(tx: Tx, referral: Referral): Promise<User | null> {
  const referrer = referral.referrerId === null ? null : await lockUser(tx, referral.referrerId);
  return referrer?.deletedAt ? null : referrer;
}
