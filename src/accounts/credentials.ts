import type { User } from '../db/generated/client.ts';
import type { Db, Tx } from '../db/transaction.ts';
import { inTransaction, isUniqueViolation } from '../db/transaction.ts';
import { leaveAddress } from './addresses.ts';
import { hashEmail } from './email.ts';
import { hashPassword } from './passwords.ts';
import { closeAllSessions, closeOtherSessions, openSession } from './sessions.ts';
import { lockVerified, verifyUser, withPassword } from './verified-user.ts';

/** Why a change was refused. */
export type Refusal = 'wrong-password' | 'address-taken';

/** Where a change is asked for: SESSION_SECRET, and the token of the session there. */
export interface Place {
  secret: string;
  token: string;
}

/**
 * Changes a user's address, and ends their reset links and all sessions but the one where they are.
 *
 * @param db the database
 * @param place the session that stays
 * @param userId who asks
 * @param typed what they typed as their password, and the new address, in lower case
 * @param now the instant, UTC
 * @returns why it was refused, or null when it is done
 */
export async function changeAddress(
  db: Db,
  place: Place,
  userId: string,
  typed: { currentPassword: string; email: string },
  now: Date,
): Promise<Refusal | null> {
  try {
    const done = await withPassword(db, byId(db, userId), typed.currentPassword, now, async (tx, user) => {
      await moveTo(tx, user, typed.email);
      await tx.resetLink.deleteMany({ where: { userId } });
      await closeOtherSessions(tx, place.secret, userId, place.token);
      return 'done';
    });
    return done === null ? 'wrong-password' : null;
  } catch (error) {
    if (isUniqueViolation(error)) return 'address-taken';
    throw error;
  }
}

async function moveTo(tx: Tx, user: User, email: string): Promise<void> {
  if (email === user.email) return;
  const emailHash = await hashEmail(tx, email);
  // Another +tag is the same address to us: what was paid for under it still counts.
  const moved = emailHash !== user.emailHash && { emailHash, emailSetAt: tx.now };
  if (moved && (await leaveAddress(tx, user))) {
    const former = { userId: user.id, emailHash: user.emailHash };
    await tx.formerAddress.upsert({ where: { userId_emailHash: former }, create: former, update: {} });
  }
  await tx.user.update({ where: { id: user.id }, data: { email, emailProvenAt: null, ...moved } });
}

/**
 * Changes a user's password, ends all their sessions and reset links, and opens a new session where they are.
 *
 * @param db the database
 * @param secret SESSION_SECRET
 * @param userId who asks
 * @param typed what they typed as their password, and the new one
 * @param now the instant, UTC
 * @returns the new session's token, or null when the current password is wrong
 */
export async function changePassword(
  db: Db,
  secret: string,
  userId: string,
  typed: { currentPassword: string; newPassword: string },
  now: Date,
): Promise<string | null> {
  const verified = await verifyUser(await byId(db, userId)(), typed.currentPassword);
  if (!verified) return null;
  const passwordHash = await hashPassword(typed.newPassword);
  return inTransaction(db, now, async (tx) => {
    // Reset meanwhile: the password that was right is none any more.
    if (!(await lockVerified(tx, verified))) return null;
    await tx.user.update({ where: { id: userId }, data: { passwordHash } });
    await tx.resetLink.deleteMany({ where: { userId } });
    await closeAllSessions(tx, userId);
    return openSession(tx, secret, userId);
  });
}

function byId(db: Db, id: string) {
  return () => db.user.findUnique({ where: { id } });
}
