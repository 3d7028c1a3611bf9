import type { Tx } from '../db/transaction.ts';
import { closeAllSessions } from './sessions.ts';

/**
 * Turns an account into its tombstone (design: rule 11): no address, no password, no session, no backup. What stays are the keyed
 * hashes of its addresses, so that the same person earns no second referral, and the ledger. The caller holds the user's lock.
 *
 * @param tx the open transaction
 * @param userId whose account
 */
export async function leaveTombstone(tx: Tx, userId: string): Promise<void> {
  await closeAllSessions(tx, userId);
  await tx.resetLink.deleteMany({ where: { userId } });
  await tx.backup.deleteMany({ where: { userId } });
  await tx.user.update({
    where: { id: userId },
    data: { email: null, passwordHash: null, deletedAt: tx.now },
  });
}
