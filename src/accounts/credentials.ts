import type { User } from '../db/generated/client.ts';
import type { Db } from '../db/transaction.ts';
import { inTransaction, isUniqueViolation } from '../db/transaction.ts';
import { hashEmail } from './email.ts';
import { hashPassword, verifyPassword } from './passwords.ts';
import { closeAllSessions, openSession } from './sessions.ts';

/** Why a change was refused. */
export type Refusal = 'wrong-password' | 'address-taken';

/**
 * Changes a user's address.
 *
 * @param db the database
 * @param user who asks
 * @param currentPassword what they typed as their password
 * @param email the new address, in lower case
 * @param now the instant, UTC
 * @returns why it was refused, or null when it is done
 */
export async function changeAddress(
  db: Db,
  user: User,
  currentPassword: string,
  email: string,
  now: Date,
): Promise<Refusal | null> {
  if (!(await verifyPassword(user.passwordHash, currentPassword))) return 'wrong-password';
  try {
    await inTransaction(db, now, async (tx) => {
      // The old address still counts as theirs: nobody refers themselves with it, nor gets a second trial.
      const former = { userId: user.id, emailHash: user.emailHash };
      await tx.formerAddress.upsert({ where: { userId_emailHash: former }, create: former, update: {} });
      await tx.user.update({
        where: { id: user.id },
        data: { email, emailHash: await hashEmail(tx, email) },
      });
    });
    return null;
  } catch (error) {
    if (isUniqueViolation(error)) return 'address-taken';
    throw error;
  }
}

/**
 * Changes a user's password, ends all their sessions and reset links, and opens a new session where they are.
 *
 * @param db the database
 * @param secret SESSION_SECRET
 * @param user who asks
 * @param typed what they typed as their password, and the new one
 * @param now the instant, UTC
 * @returns the new session's token, or null when the current password is wrong
 */
export async function changePassword(
  db: Db,
  secret: string,
  user: User,
  typed: { currentPassword: string; newPassword: string },
  now: Date,
): Promise<string | null> {
  if (!(await verifyPassword(user.passwordHash, typed.currentPassword))) return null;
  const passwordHash = await hashPassword(typed.newPassword);
  return inTransaction(db, now, async (tx) => {
    await tx.user.update({ where: { id: user.id }, data: { passwordHash } });
    await tx.resetLink.deleteMany({ where: { userId: user.id } });
    await closeAllSessions(tx, user.id);
    return openSession(tx, secret, user.id);
  });
}
