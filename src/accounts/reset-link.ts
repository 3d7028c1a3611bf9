import { lockUser } from '../db/lock-user.ts';
import type { Db, Tx } from '../db/transaction.ts';
import { inTransaction } from '../db/transaction.ts';
import { hashPassword } from './passwords.ts';
import { closeAllSessions } from './sessions.ts';
import { hashToken, newToken } from './tokens.ts';
import { addSeconds } from '../instants.ts';

/** A reset link works this long, s. */
export const RESET_LINK_SECONDS = 3_600;

/**
 * Makes a link's token with which a user can set a new password, once. Older links of theirs stop working.
 *
 * @param tx the open transaction
 * @param secret SESSION_SECRET
 * @param userId whose password
 * @returns the token, of which only the hash is stored; null when the account is gone
 */
export async function createResetToken(tx: Tx, secret: string, userId: string): Promise<string | null> {
  const user = await lockUser(tx, userId);
  if (!user || user.deletedAt) return null;
  const token = newToken();
  await tx.resetLink.deleteMany({ where: { userId } });
  await tx.resetLink.create({
    data: { tokenHash: hashToken(secret, token), userId, expiresAt: addSeconds(tx.now, RESET_LINK_SECONDS) },
  });
  return token;
}

/**
 * @param db the database
 * @param secret SESSION_SECRET
 * @param token the token in the link
 * @param now the instant, UTC
 * @returns whether the link still works
 */
export async function resetLinkWorks(db: Db, secret: string, token: string, now: Date): Promise<boolean> {
  const link = await db.resetLink.findUnique({ where: { tokenHash: hashToken(secret, token) } });
  return link !== null && link.expiresAt > now;
}

/**
 * Uses a link up: sets the new password, and ends all sessions and other reset links of the user.
 *
 * @param db the database
 * @param secret SESSION_SECRET
 * @param token the token in the link
 * @param password the new password
 * @param now the instant, UTC
 * @returns false when the link does not work (any more): then nothing is changed
 */
export async function resetPassword(
  db: Db,
  secret: string,
  token: string,
  password: string,
  now: Date,
): Promise<boolean> {
  const tokenHash = hashToken(secret, token);
  const link = await db.resetLink.findUnique({ where: { tokenHash } });
  // Before hashing, which is slow: anybody can send a token.
  if (!link || link.expiresAt <= now) return false;
  const { userId } = link;
  const passwordHash = await hashPassword(password);
  return inTransaction(db, now, async (tx) => {
    await lockUser(tx, userId);
    // Deleting it is what uses it up: of two who come at once, one finds nothing to delete.
    const { count } = await tx.resetLink.deleteMany({ where: { tokenHash, expiresAt: { gt: tx.now } } });
    if (count === 0) return false;
    await tx.user.update({ where: { id: userId }, data: { passwordHash } });
    await tx.resetLink.deleteMany({ where: { userId } });
    await closeAllSessions(tx, userId);
    return true;
  });
}
