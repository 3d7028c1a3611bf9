import type { Tx } from '../db/transaction.ts';
import { addSeconds } from '../instants.ts';
import { closeAllSessions } from './sessions.ts';

/**
 * How long an account is shut out, s. If Stripe does not answer, the person proving the address can try again within
 * this time.
 */
const SHUT_OUT_SECONDS = 600;

/**
 * Shuts the holder of an unclaimed account out for `SHUT_OUT_SECONDS`, during which Stripe is asked: ends its sessions
 * and its pending change, and refuses its password. Otherwise they would notice that their checkout expired, and could
 * take the address to another account or open another checkout. The shut-out ends by itself, because the account may
 * turn out to be claimed.
 *
 * @param tx must hold the user's lock
 */
export async function shutOut(tx: Tx, userId: string): Promise<void> {
  const shutOutUntil = addSeconds(tx.now, SHUT_OUT_SECONDS);
  await tx.user.update({
    where: { id: userId },
    data: { shutOutUntil, pendingEmail: null, pendingEmailAt: null },
  });
  await closeAllSessions(tx, userId);
}

/** Lets a shut-out account be used again at once, because it turned out to be claimed. */
export async function letIn(tx: Tx, userId: string): Promise<void> {
  await tx.user.updateMany({ where: { id: userId }, data: { shutOutUntil: null } });
}
