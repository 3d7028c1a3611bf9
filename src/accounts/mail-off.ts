import type { Db } from '../db/transaction.ts';
import { inTransaction } from '../db/transaction.ts';

/**
 * Turns mail about credit and payments off or on. Mail about the account itself is always sent.
 *
 * @param userId whose; a deleted account gets none anyway
 * @param now the instant, UTC
 */
export async function setMailOff(db: Db, userId: string, mailOff: boolean, now: Date): Promise<void> {
  await inTransaction(db, now, (tx) =>
    tx.user.updateMany({ where: { id: userId, deletedAt: null }, data: { mailOff } }),
  );
}
