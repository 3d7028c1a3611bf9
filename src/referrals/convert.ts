import { grantCredit } from '../credits/ledger.ts';
import type { ReferralRow, UserRow } from '../db/rows.ts';
import type { Unit } from '../db/unit-of-work.ts';
import { DAY_SECONDS, later } from '../instants.ts';
import { conversions } from '../metrics.ts';
import { tellSide } from './tell.ts';

/**
 * Days that a conversion grants to each side. Settings counts the conversion as active for the same number of days.
 * Pages, emails and Stripe's checkout page take the number from here. docs/contributing.md lists what else names it.
 */
export const REFERRAL_CREDIT_DAYS = 45;

/** Why a referral never converts although payment is proven (design: rule 11). */
export type ReferralRefusal = 'own-address' | 'address-converted';

/**
 * The one moment a referral pays out (design: rule 2): stamps it and grants `REFERRAL_CREDIT_DAYS` to the buyer and
 * the referrer. Idempotent: a stamped referral is returned unchanged. A missing referrer is skipped, and the buyer is
 * credited all the same. A self-referral, or an address that has already converted one, is refused for good (design:
 * rule 11). The unit of work must hold the locks of the buyer and the referrer.
 *
 * @returns null when nobody referred the user
 */
export function convertReferral(tx: Unit, user: UserRow): ReferralRow | null {
  const referral = tx.rows.referrals.get(user.id);
  if (!referral) return null;
  if (referral.convertedAt || referral.refusedFor || user.deletedAt) return referral;

  const refusedFor = refusalOf(tx, referral, user);
  if (refusedFor) return put(tx, { ...referral, refusedFor });

  // While this transaction waited for the lock, the referrer may have been deleted: no conversion is dated before that.
  const convertedAt = later(tx.now, tx.rows.users.get(referral.referrerId ?? '')?.deletedAt ?? null);
  const stamped = put(tx, { ...referral, convertedAt, creditedAt: tx.now, referredHash: user.emailHash });
  const cause = { id: referral.id, actor: 'stripe' } as const;
  const seconds = REFERRAL_CREDIT_DAYS * DAY_SECONDS;
  for (const one of [user, referrerOf(tx, referral)]) {
    if (!one) continue;
    grantCredit(tx, one, seconds, cause, referral.id);
    tellSide(tx, one, referral, { kind: 'mail.days-granted', seconds });
  }
  tx.afterCommit(() => {
    conversions.inc();
  });
  return stamped;
}

/** The referrer; null when they are missing or only a tombstone. */
export function referrerOf({ rows }: Unit, { referrerId }: ReferralRow): UserRow | null {
  const referrer = referrerId === null ? undefined : rows.users.get(referrerId);
  return referrer && !referrer.deletedAt ? referrer : null;
}

/**
 * Why a referral is refused. The loaded row already takes former addresses into account; if two accounts of one person
 * convert in one batch, the first one wins.
 */
function refusalOf({ rows }: Unit, referral: ReferralRow, user: UserRow): ReferralRefusal | null {
  if (referral.ownAddress) return 'own-address';
  const addresses: ReadonlySet<string | null> = new Set([user.emailHash, ...user.formerHashes]);
  const convertedNow = [...rows.referrals.values()].some(
    ({ id, convertedAt, referredHash, referredId }) =>
      id !== referral.id &&
      convertedAt !== null &&
      [referredHash, ...(rows.users.get(referredId)?.formerHashes ?? [])].some((hash) => addresses.has(hash)),
  );
  return referral.addressConverted || convertedNow ? 'address-converted' : null;
}

function put({ rows }: Unit, referral: ReferralRow): ReferralRow {
  rows.referrals.set(referral.referredId, referral);
  return referral;
}
