import type { User } from '../db/generated/client.ts';
import { isUsable, lockUser } from '../db/lock-user.ts';
import type { Db, Tx } from '../db/transaction.ts';
import { inTransaction } from '../db/transaction.ts';
import { checkPassword, hashPassword } from './passwords.ts';

/** Attempts before giving up. Each retry means that the account changed during the comparison. */
const MAX_TRIES = 3;

/** Finds the row whose password is compared. */
type FindUser = () => Promise<User | null>;

/** A user whose password was right, not locked yet. */
export interface VerifiedUser {
  user: User;
  /** A new hash to store because the old one is outdated. */
  rehashed: string | null;
}

/**
 * Compares a password with a user's. Hashing is slow, so this runs outside any transaction; check again with
 * `lockVerified`.
 *
 * @param user as read, or null when there is none
 * @returns null when the password is wrong
 */
export async function verifyUser(user: User | null, password: string): Promise<VerifiedUser | null> {
  const verdict = await checkPassword(user?.passwordHash ?? null, password);
  if (!user || verdict === 'wrong') return null;
  return { user, rehashed: verdict === 'outdated' ? await hashPassword(password) : null };
}

/**
 * Locks a user whose password was right, unless the password has changed or the account has been deleted or shut
 * out since (design: rule 5).
 *
 * @returns the locked row, or null
 */
export async function lockVerified(tx: Tx, { user, rehashed }: VerifiedUser): Promise<User | null> {
  const locked = await lockUnchanged(tx, user);
  if (!locked || rehashed === null) return locked;
  return tx.user.update({ where: { id: locked.id }, data: { passwordHash: rehashed } });
}

/**
 * Locks a user, unless the password changed or the account was deleted or shut out since the row was read (design: rule
 * 5). Each of these has ended the session. A hash that `lockVerified` renewed also counts as a new
 * password, because without the password the two cannot be told apart: the user has to log in or send the form again.
 *
 * @returns the locked row
 */
export async function lockUnchanged(tx: Tx, user: User): Promise<User | null> {
  const locked = await lockUser(tx, user.id);
  if (!locked || !isUsable(locked, tx.now)) return null;
  return locked.passwordHash === user.passwordHash ? locked : null;
}

/**
 * Runs work that requires the user's password, under the user's lock.
 *
 * @returns the result of `work`, or null when the password is wrong, there is no usable account, or it kept changing
 */
export async function withPassword<T>(
  db: Db,
  find: FindUser,
  password: string,
  now: Date,
  work: (tx: Tx, user: User) => Promise<T>,
): Promise<T | null> {
  for (let tries = 1; tries <= MAX_TRIES; tries += 1) {
    const verified = await verifyUser(await find(), password);
    // Look after the comparison, so that a shut-out account takes as long as a wrong password.
    if (!verified || !isUsable(verified.user, now)) return null;
    const done = await inTransaction(db, now, async (tx) => {
      const user = await lockVerified(tx, verified);
      return user && { result: await work(tx, user) };
    });
    if (done) return done.result;
  }
  return null;
}
