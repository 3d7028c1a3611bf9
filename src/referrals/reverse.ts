import type { Cause } from '../audit.ts';
import { restoreCredit, reverseCredit } from '../credits/ledger.ts';
import type { Referral, User } from '../db/generated/client.ts';
import type { Tx } from '../db/transaction.ts';
import { restorations, reversals } from '../metrics.ts';
import { lockReferrer } from './convert.ts';

type MoveBack = typeof reverseCredit;

/**
 * Takes a conversion's credit back: what is unspent of it, from both (design: rule 9).
 *
 * @param tx the open transaction
 * @param referral the conversion, not reversed
 * @param user the buyer, locked
 * @param cause what showed that the conversion does not hold
 * @returns the referral, with `reversedAt` set
 */
export async function reverseConversion(
  tx: Tx,
  referral: Referral,
  user: User,
  cause: Cause,
): Promise<Referral> {
  await forBoth(tx, referral, user, cause, reverseCredit);
  tx.afterCommit(() => {
    reversals.inc();
  });
  return tx.referral.update({ where: { id: referral.id }, data: { reversedAt: tx.now } });
}

/**
 * Gives a reversed conversion's credit back: exactly what was taken, to both (design: rule 9).
 *
 * @param tx the open transaction
 * @param referral the conversion, reversed
 * @param user the buyer, locked
 * @param cause what showed that the conversion holds after all
 * @returns the referral, with `reversedAt` cleared
 */
export async function restoreConversion(
  tx: Tx,
  referral: Referral,
  user: User,
  cause: Cause,
): Promise<Referral> {
  await forBoth(tx, referral, user, cause, restoreCredit);
  tx.afterCommit(() => {
    restorations.inc();
  });
  return tx.referral.update({ where: { id: referral.id }, data: { reversedAt: null } });
}

async function forBoth(
  tx: Tx,
  referral: Referral,
  user: User,
  cause: Cause,
  moveBack: MoveBack,
): Promise<void> {
  const referrer = await lockReferrer(tx, referral);
  await moveBack(tx, user, referral.id, cause);
  // A referrer who is there now was there at the conversion, too, and was credited.
  if (referrer) await moveBack(tx, referrer, referral.id, cause);
}
