import { randomUUID } from 'node:crypto';

import type { User } from '../db/generated/client.ts';
import { WOULD_BE_REFUSED } from '../db/load.ts';
import type { Db, Tx } from '../db/transaction.ts';
import { findReferrer } from './codes.ts';

/**
 * Ties a new user to the owner of the code they used. An unknown code creates no referral, and neither does one's own
 * code used under another +tag or a former address (design: rule 11). Whether the address has already converted a
 * referral is checked only at conversion, because the account that converted it may belong to a stranger who typed this
 * address.
 *
 * If the user already has a referral, it stays. None is created if the user has invited the owner of this code, which is
 * possible only when an account is emptied: two accounts must not refer each other.
 *
 * @param tx the transaction that creates the user, or empties the account
 * @param code null when the user came without one
 */
export async function captureReferral(tx: Tx, user: User, code: string | null): Promise<void> {
  const referrer = code === null ? null : await findReferrer(tx, code);
  if (!referrer || (await isOwnAddress(tx, referrer, user.emailHash))) return;
  await tx.$executeRaw`
    INSERT INTO "Referral" ("id", "referrerId", "referredId", "createdAt")
    SELECT ${randomUUID()}, ${referrer.id}, ${user.id}, ${tx.now}
    WHERE NOT EXISTS (SELECT 1 FROM "Referral" WHERE "referredId" = ${referrer.id} AND "referrerId" = ${user.id})
    ON CONFLICT ("referredId") DO NOTHING`;
}

/**
 * Whether the user was invited and, as far as we can tell, gets free days with their first payment. If their address is
 * unproven, we do not reveal that it has already converted a referral: it may belong to somebody else.
 */
export async function isInvitationOpen(db: Db, userId: string): Promise<boolean> {
  const [open] = await db.$queryRaw<{ proven: Date | null }[]>`
    SELECT u."emailProvenAt" AS "proven" FROM "Referral" AS t JOIN "User" AS u ON u."id" = t."referredId"
    WHERE t."referredId" = ${userId} AND t."convertedAt" IS NULL AND t."refusedFor" IS NULL`;
  if (!open?.proven) return open !== undefined;
  const refused = await db.$queryRaw<unknown[]>`
    SELECT 1 FROM "Referral" AS t WHERE t."referredId" = ${userId} AND ${WOULD_BE_REFUSED}`;
  return refused.length === 0;
}

async function isOwnAddress(
  tx: Tx,
  account: { id: string; emailHash: string },
  emailHash: string,
): Promise<boolean> {
  if (account.emailHash === emailHash) return true;
  return (await tx.formerAddress.count({ where: { userId: account.id, emailHash } })) > 0;
}
