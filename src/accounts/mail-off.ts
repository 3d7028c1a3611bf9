import type { User } from '../db/generated/client.ts';
import { lockUser } from '../db/lock-user.ts';
import type { Db } from '../db/transaction.ts';
import { inTransaction } from '../db/transaction.ts';

/**
 * Turns mail about credit and payments off or on. Mail about the account itself is always sent.
 *
 * @param isAllowed whether the account, locked, still allows it: same password, or same address
 * @returns false, with nothing changed, when it does not
 */
export async function setMailOff(
  db: Db,
  userId: string,
  mailOff: boolean,
  isAllowed: (user: User) => boolean,
  now: Date,
): Promise<boolean> {
  return inTransaction(db, now, async (tx) => {
    const user = await lockUser(tx, userId);
    if (!user || user.deletedAt || !isAllowed(user)) return false;
    await tx.user.update({ where: { id: userId }, data: { mailOff } });
    return true;
  });
}
