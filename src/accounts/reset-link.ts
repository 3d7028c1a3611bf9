import { randomUUID } from 'node:crypto';

import type { User } from '../db/generated/client.ts';
import { lockUser } from '../db/lock-user.ts';
import type { Db, Tx } from '../db/transaction.ts';
import { inTransaction } from '../db/transaction.ts';
import { resetToken } from '../outbox/links.ts';
import { queueNow } from '../outbox/queue.ts';
import { isUnclaimed } from './addresses.ts';
import { setPassword } from './change-password.ts';
import { hashPassword } from './passwords.ts';
import { hashToken, newToken } from './tokens.ts';
import { addSeconds, wholeSeconds } from '../instants.ts';

/** A reset link works this long, s. */
export const RESET_LINK_SECONDS = 3_600;

/**
 * Makes the token of a link that an operator gives out, with which a user can set a new password, once. Older links of
 * theirs stop working.
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
  await replaceLink(tx, secret, userId, token, false);
  return token;
}

/**
 * Queues a mail with such a link for the account that has an address, if there is one. Nothing tells whether there is.
 *
 * @param email in lower case
 * @param mayMail whether one more mail may go to the account's address
 * @param now the instant, UTC
 */
export async function mailResetLink(
  db: Db,
  secret: string,
  email: string,
  mayMail: (user: User) => Promise<boolean>,
  now: Date,
): Promise<void> {
  const found = await db.user.findUnique({ where: { email } });
  if (!found || !(await mayMail(found))) return;
  await inTransaction(db, now, async (tx) => {
    const user = await lockUser(tx, found.id);
    // It was changed, or the account deleted: then the mail would go to somebody else, or to nobody.
    if (user?.email !== email) return;
    const id = randomUUID();
    await replaceLink(tx, secret, user.id, resetToken(secret, id), true);
    await queueNow(tx, [{ id, kind: 'mail.reset-password', userId: user.id, data: null }]);
  });
}

async function replaceLink(
  tx: Tx,
  secret: string,
  userId: string,
  token: string,
  mailed: boolean,
): Promise<void> {
  await tx.resetLink.deleteMany({ where: { userId } });
  const expiresAt = addSeconds(tx.now, RESET_LINK_SECONDS);
  await tx.resetLink.create({ data: { tokenHash: hashToken(secret, token), userId, expiresAt, mailed } });
}

/** A reset link that works. */
export interface WorkingResetLink {
  user: User;
  /** It went to the account's address, so that using it proves the address. */
  mailed: boolean;
  /** Nobody proved the account's address, and nothing was paid: whoever uses a link that was mailed there gets it empty. */
  startsAfresh: boolean;
}

/**
 * @param token the token in the link
 * @param now the instant, UTC
 * @returns null when the link does not work (any more)
 */
export async function findResetLink(
  db: Db,
  secret: string,
  token: string,
  now: Date,
): Promise<WorkingResetLink | null> {
  const where = { tokenHash: hashToken(secret, token), expiresAt: { gt: wholeSeconds(now) } };
  const link = await db.resetLink.findUnique({ where, include: { user: true } });
  if (!link) return null;
  const { user, mailed } = link;
  return { user, mailed, startsAfresh: mailed && (await isUnclaimed(db, user)) };
}

/**
 * Uses a link up: sets the new password, and ends all sessions and pending links of the user. A link that was mailed proves
 * the address; an account that nobody had proven or paid for is emptied then, because somebody else may have made it.
 *
 * @param token the token in the link
 * @param password the new password
 * @param mayMail whether one more mail may go to the account's address
 * @param now the instant, UTC
 * @returns false when the link does not work (any more): then nothing is changed
 */
export async function resetPassword(
  db: Db,
  secret: string,
  token: string,
  password: string,
  mayMail: boolean,
  now: Date,
): Promise<boolean> {
  // Before hashing, which is slow: anybody can send a token.
  const link = await findResetLink(db, secret, token, now);
  if (!link) return false;
  const userId = link.user.id;
  const passwordHash = await hashPassword(password);
  return inTransaction(db, now, async (tx) => {
    const user = await lockUser(tx, userId);
    const where = { tokenHash: hashToken(secret, token), expiresAt: { gt: tx.now } };
    const used = await tx.resetLink.findUnique({ where });
    if (!user || !used) return false;
    if (used.mailed && (await isUnclaimed(tx, user))) {
      await tx.backup.deleteMany({ where: { userId } });
      await tx.referral.deleteMany({ where: { referredId: userId, convertedAt: null } });
    }
    const proven = used.mailed && user.emailProvenAt === null && { emailProvenAt: tx.now };
    await setPassword(tx, userId, passwordHash, proven || {});
    if (mayMail) await queueNow(tx, [{ kind: 'mail.password-changed', userId, data: null }]);
    return true;
  });
}
