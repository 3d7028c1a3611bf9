import { randomUUID } from 'node:crypto';

import type { User } from '../db/generated/client.ts';
import type { Tx } from '../db/transaction.ts';
import { findReferrer } from './codes.ts';

/**
 * Ties a new user to the one whose code they used. An unknown code, and one's own code under another +tag or a former
 * address, are silently no referral (design: rule 11). Whether the address has converted one before is looked at when
 * this one would: the account that did may be of a stranger who typed it.
 *
 * @param tx the transaction that makes the user
 * @param user the new user
 * @param code the code they came with, or null
 */
export async function captureReferral(tx: Tx, user: User, code: string | null): Promise<void> {
  const referrer = code === null ? null : await findReferrer(tx, code);
  if (!referrer || (await isOwnAddress(tx, referrer, user.emailHash))) return;
  await tx.$executeRaw`
    INSERT INTO "Referral" ("id", "referrerId", "referredId", "createdAt")
    VALUES (${randomUUID()}, ${referrer.id}, ${user.id}, ${tx.now})`;
}

async function isOwnAddress(
  tx: Tx,
  account: { id: string; emailHash: string },
  emailHash: string,
): Promise<boolean> {
  if (account.emailHash === emailHash) return true;
  return (await tx.formerAddress.count({ where: { userId: account.id, emailHash } })) > 0;
}
