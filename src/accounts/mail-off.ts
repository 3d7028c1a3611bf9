import type { Db } from '../db/transaction.ts';
import { inTransaction } from '../db/transaction.ts';

/** Turns mail about credit and payments off or on. Mail about the account itself is always sent. */
export async function setMailOff(db: Db, userId: string, mailOff: boolean, now: Date): Promise<void> {
  await inTransaction(db, now, (tx) =>
    tx.user.updateMany({ where: { id: userId, deletedAt: null }, data: { mailOff } }),
  );
}
