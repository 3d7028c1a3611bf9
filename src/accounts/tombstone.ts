import type { User } from '../db/generated/client.ts';
import type { Tx } from '../db/transaction.ts';
import { later } from '../instants.ts';
import { leaveAddress, NO_ADDRESS } from './addresses.ts';
import { releaseResetLinks } from './reset-links-of-address.ts';
import { closeAllSessions } from './sessions.ts';

/**
 * Empties an account's row (design: rule 11): deletes its address, password, sessions, backups and reset links. If the
 * account is unclaimed, mailed links that still work are kept for the next account that signs up with the address
 * (`releaseResetLinks`). The ledger stays because it is append-only, and keyed hashes of the addresses that count stay
 * so that the same person cannot get a second conversion or trial.
 *
 * @param user locked
 */
export async function leaveTombstone(tx: Tx, user: User): Promise<void> {
  const userId = user.id;
  const counts = await leaveAddress(tx, user);
  await releaseResetLinks(tx, user);
  await closeAllSessions(tx, userId);
  await tx.backup.deleteMany({ where: { userId } });
  await tx.user.update({
    where: { id: userId },
    data: {
      email: null,
      passwordHash: null,
      shutOutUntil: null,
      pendingEmail: null,
      pendingEmailAt: null,
      // The transaction may have waited for one with a later `now`. The deletion must not be dated before it.
      deletedAt: later(tx.now, user.creditEntryAt),
      ...(!counts && { emailHash: NO_ADDRESS }),
    },
  });
}
