import { grantCredit } from '../credits/ledger.ts';
import type { ReferralRow, UserRow } from '../db/rows.ts';
import type { Unit } from '../db/unit-of-work.ts';
import { DAY_SECONDS } from '../instants.ts';
import { conversions } from '../metrics.ts';
import { tellSide } from './tell.ts';

/** What a conversion grants to each side, days. */
export const REFERRAL_CREDIT_DAYS = 45;

/** Why a referral never converts though a payment is proven (design: rule 11). */
export type ReferralRefusal = 'own-address' | 'address-converted';

/**
 * The one moment a referral pays out (design: rule 2): stamps it, and grants `REFERRAL_CREDIT_DAYS` to the buyer
 * and to the referrer. Safe to call again: a stamped referral is returned as it is. A referrer who is gone is
 * skipped, and the buyer is credited all the same. A referral of oneself, or of an address that converted one already, is
 * refused for good (design: rule 11).
 *
 * @param tx the unit of work, which holds the locks of the buyer and the referrer
 * @param user the buyer, whose payment is proven
 * @returns the referral, or null when the user was referred by nobody
 */
export function convertReferral(tx: Unit, user: UserRow): ReferralRow | null {
  const referral = tx.rows.referrals.get(user.id);
  if (!referral) return null;
  if (referral.convertedAt || referral.refusedFor || user.deletedAt) return referral;

  const refusedFor = refusalOf(tx, referral, user);
  if (refusedFor) return put(tx, { ...referral, refusedFor });

  const { now } = tx;
  const stamped = put(tx, { ...referral, convertedAt: now, creditedAt: now, referredHash: user.emailHash });
  const cause = { id: referral.id, actor: 'stripe' } as const;
  const seconds = REFERRAL_CREDIT_DAYS * DAY_SECONDS;
  for (const one of [user, referrerOf(tx, referral)]) {
    if (!one) continue;
    grantCredit(tx, one, seconds, cause, referral.id);
    tellSide(tx, one, referral, 'mail.days-granted', seconds);
  }
  tx.afterCommit(() => {
    conversions.inc();
  });
  return stamped;
}

/**
 * @param tx the unit of work
 * @param referral whose referrer
 * @returns the referrer; null when there is none any more, or only their tombstone
 */
export function referrerOf({ rows }: Unit, { referrerId }: ReferralRow): UserRow | null {
  const referrer = referrerId === null ? undefined : rows.users.get(referrerId);
  return referrer && !referrer.deletedAt ? referrer : null;
}

/**
 * Why it is refused: an address of the user's is one of the referrer's, or has converted a referral. Former addresses that
 * count are looked at as well, when the rows are loaded; of two accounts that convert together the first one goes first.
 */
function refusalOf(
  { rows }: Unit,
  { ownAddress, addressConverted }: ReferralRow,
  { emailHash }: UserRow,
): ReferralRefusal | null {
  if (ownAddress) return 'own-address';
  const convertedNow = [...rows.referrals.values()].some(({ referredHash }) => referredHash === emailHash);
  return addressConverted || convertedNow ? 'address-converted' : null;
}

function put({ rows }: Unit, referral: ReferralRow): ReferralRow {
  rows.referrals.set(referral.referredId, referral);
  return referral;
}
