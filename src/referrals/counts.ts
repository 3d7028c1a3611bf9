import type { Db } from '../db/transaction.ts';
import { REFERRAL_CREDIT_DAYS } from './convert.ts';
import { addSeconds, DAY_SECONDS } from '../instants.ts';

export interface ReferralCounts {
  /** Signed up with the user's code. */
  invited: number;
  /** Of these, converted and not reversed. */
  converted: number;
  /** Of these, credited within the last 45 days. */
  activeCredits: number;
}

/**
 * @param db the database
 * @param referrerId whose referrals
 * @param now the instant to count at, UTC
 * @returns what Settings shows of them
 */
export async function countReferrals(db: Db, referrerId: string, now: Date): Promise<ReferralCounts> {
  const since = addSeconds(now, -REFERRAL_CREDIT_DAYS * DAY_SECONDS);
  const [counts] = await db.$queryRaw<[Record<keyof ReferralCounts, bigint>]>`
    SELECT count(*) AS "invited",
      count(CASE WHEN "convertedAt" IS NOT NULL AND "reversedAt" IS NULL THEN 1 END) AS "converted",
      count(CASE WHEN "creditedAt" >= ${since} AND "reversedAt" IS NULL THEN 1 END) AS "activeCredits"
    FROM "Referral" WHERE "referrerId" = ${referrerId}`;
  return {
    invited: Number(counts.invited),
    converted: Number(counts.converted),
    activeCredits: Number(counts.activeCredits),
  };
}
