import { grantConversionCredit } from '../credits/ledger.ts';
import { Prisma } from '../db/generated/client.ts';
import type { Referral, User } from '../db/generated/client.ts';
import { lockUser } from '../db/lock-user.ts';
import { isUniqueViolation, LostRace } from '../db/transaction.ts';
import type { Tx } from '../db/transaction.ts';
import { DAY_SECONDS } from '../instants.ts';
import { conversions } from '../metrics.ts';

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
 * @param tx the open transaction
 * @param user the buyer, locked, whose payment is proven
 * @returns the referral, or null when the user was referred by nobody or is gone
 */
export async function convertReferral(tx: Tx, user: User): Promise<Referral | null> {
  const referrer = user.deletedAt ? null : await lockOpenReferrer(tx, user.id);
  if (!referrer) {
    const known = await tx.referral.findUnique({ where: { referredId: user.id } });
    if (!known || known.convertedAt || known.refusedFor || user.deletedAt) return known;
  }
  const referral = await claim(tx, user);
  if (!referral) return refuse(tx, user);

  const cause = { id: referral.id, actor: 'stripe' } as const;
  const seconds = REFERRAL_CREDIT_DAYS * DAY_SECONDS;
  const credited = referrer && !referrer.deletedAt ? [user, referrer] : [user];
  await grantConversionCredit(tx, credited, seconds, cause, referral.id);
  tx.afterCommit(() => {
    conversions.inc();
  });
  return referral;
}

/** The referrer of a referral that is still open, locked: what decides about it are their addresses, too. */
async function lockOpenReferrer(tx: Tx, referredId: string): Promise<User | null> {
  const [referrer] = await tx.$queryRaw<User[]>`
    UPDATE "User" SET "tier" = "tier" WHERE "id" = (
      SELECT "referrerId" FROM "Referral"
      WHERE "referredId" = ${referredId} AND "convertedAt" IS NULL AND "refusedFor" IS NULL
    ) RETURNING *`;
  return referrer ?? null;
}

/**
 * Stamps the user's open referral, unless it is to be refused. When two accounts of one address convert at once, the
 * database lets one through; the other is run again, and is refused then.
 */
async function claim(tx: Tx, user: User): Promise<Referral | null> {
  try {
    const [referral] = await tx.$queryRaw<Referral[]>`
      UPDATE "Referral" SET "convertedAt" = ${tx.now}, "creditedAt" = ${tx.now}, "referredHash" = ${user.emailHash}
      WHERE "referredId" = ${user.id} AND NOT ${ownAddress(user)} AND NOT ${addressConverted(user)}
      RETURNING *`;
    return referral ?? null;
  } catch (error) {
    throw isUniqueViolation(error) ? new LostRace(error) : error;
  }
}

async function refuse(tx: Tx, user: User): Promise<Referral | null> {
  const [referral] = await tx.$queryRaw<Referral[]>`
    UPDATE "Referral" SET "refusedFor" =
      CASE WHEN ${ownAddress(user)} THEN ${'own-address' satisfies ReferralRefusal}
      ELSE ${'address-converted' satisfies ReferralRefusal} END
    WHERE "referredId" = ${user.id} RETURNING *`;
  return referral ?? null;
}

/** An address of the user's is one of the referrer's: the current ones of both, and former ones that count. */
function ownAddress(user: User): Prisma.Sql {
  return Prisma.sql`(
    EXISTS (SELECT 1 FROM "User" AS r WHERE r."id" = "Referral"."referrerId" AND r."emailHash" IN ${addressesOf(user)})
    OR EXISTS (SELECT 1 FROM "FormerAddress" AS f
      WHERE f."userId" = "Referral"."referrerId" AND f."emailHash" IN ${addressesOf(user)})
  )`;
}

/** An address of the user's has converted a referral, or is a former one of somebody who converted. */
function addressConverted(user: User): Prisma.Sql {
  return Prisma.sql`(
    EXISTS (SELECT 1 FROM "Referral" AS c
      WHERE c."convertedAt" IS NOT NULL AND c."referredHash" IN ${addressesOf(user)})
    OR EXISTS (SELECT 1 FROM "FormerAddress" AS f JOIN "Referral" AS c ON c."referredId" = f."userId"
      WHERE c."convertedAt" IS NOT NULL AND f."emailHash" IN ${addressesOf(user)})
  )`;
}

function addressesOf({ id, emailHash }: User): Prisma.Sql {
  return Prisma.sql`(SELECT ${emailHash} UNION ALL SELECT "emailHash" FROM "FormerAddress" WHERE "userId" = ${id})`;
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
