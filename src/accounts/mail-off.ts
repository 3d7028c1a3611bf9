import type { User } from '../db/generated/client.ts';
import type { Db, Tx } from '../db/transaction.ts';
import { inTransaction } from '../db/transaction.ts';

/**
 * Turns mail about credit and payments off or on. Mail about the account itself is always sent.
 *
 * @param lock locks the account; null when the caller may no longer change it
 * @returns false, with nothing changed, when `lock` returns null
 */
export async function setMailOff(
  db: Db,
  lock: (tx: Tx) => Promise<User | null>,
  mailOff: boolean,
  now: Date,
): Promise<boolean> {
  return inTransaction(db, now, async (tx) => {
    const user = await lock(tx);
    if (!user) return false;
    await tx.user.update({ where: { id: user.id }, data: { mailOff } });
    return true;
  });
}
