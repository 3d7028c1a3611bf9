import type { Db } from '../db/transaction.ts';
import { lockUser } from '../db/lock-user.ts';
import { inTransaction } from '../db/transaction.ts';
import { isUnclaimed } from './addresses.ts';
import { setPassword } from './change-password.ts';
import { hashPassword } from './passwords.ts';
import { newToken } from './tokens.ts';

/** The accounts that were shut out, by id: the hash that they have now, of no password, and the one before it. */
export type ShutOut = Map<string, { unusable: string; before: string }>;

/**
 * Keeps whoever holds an unclaimed account from using it while Stripe is asked: ends its sessions and its pending change,
 * and replaces its password. Otherwise they would notice that their checkout expired, and could take the address to another
 * account or open another checkout.
 *
 * @param shutOuts gets the account
 * @returns false, with nothing changed, when it has left the address or been claimed
 */
export async function shutOut(
  db: Db,
  userId: string,
  address: string,
  shutOuts: ShutOut,
  now: Date,
): Promise<boolean> {
  const unusable = shutOuts.get(userId)?.unusable ?? (await hashPassword(newToken()));
  return inTransaction(db, now, async (tx) => {
    const holder = await lockUser(tx, userId);
    if (holder?.email !== address || holder.passwordHash === null) return false;
    if (!(await isUnclaimed(tx, holder))) return false;
    if (holder.passwordHash !== unusable) shutOuts.set(userId, { unusable, before: holder.passwordHash });
    await setPassword(tx, userId, unusable);
    return true;
  });
}

/** Gives back the passwords of accounts that keep their address, unless they have been changed since. */
export async function letIn(db: Db, shutOuts: ShutOut, now: Date): Promise<void> {
  for (const [id, { unusable, before }] of shutOuts) {
    await inTransaction(db, now, (tx) =>
      tx.user.updateMany({ where: { id, passwordHash: unusable }, data: { passwordHash: before } }),
    );
  }
}
