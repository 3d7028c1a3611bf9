import type { User } from '../db/generated/client.ts';
import { lockUser } from '../db/lock-user.ts';
import type { Db } from '../db/transaction.ts';
import { inTransaction } from '../db/transaction.ts';

/**
 * Turns mail about credit and payments off or on. Mail about the account itself is always sent.
 *
 * @param still whether the account, locked, is still the one that asked
 * @returns false, with nothing changed, when it is not
 */
export async function setMailOff(
  db: Db,
  userId: string,
  mailOff: boolean,
  still: (user: User) => boolean,
  now: Date,
): Promise<boolean> {
  return inTransaction(db, now, async (tx) => {
    const user = await lockUser(tx, userId);
    if (!user || user.deletedAt || !still(user)) return false;
    await tx.user.update({ where: { id: userId }, data: { mailOff } });
    return true;
  });
}
