import type { Cause } from '../audit.ts';
import type { Referral, User } from '../db/generated/client.ts';
import type { Tx } from '../db/transaction.ts';
import { convertReferral } from './convert.ts';
import { restoreConversion, reverseConversion } from './reverse.ts';

/**
 * Makes a user's referral follow the facts, whatever their order was: it converts with the first proof of
 * payment, and is reversed exactly while nothing proves one (design: rule 9). Called whenever a fact that
 * bears on the proof is new.
 *
 * @param tx the open transaction
 * @param user the referred user, locked
 * @param paymentProven whether the facts of any of the user's subscriptions prove a payment
 * @param cause what brought the fact
 * @returns the referral as it is now, or null when the user was referred by nobody
 */
export async function reviewReferral(
  tx: Tx,
  user: User,
  paymentProven: boolean,
  cause: Cause,
): Promise<Referral | null> {
  if (!paymentProven) return reverseIfConverted(tx, user, cause);
  const referral = await convertReferral(tx, user);
  return referral?.reversedAt ? restoreConversion(tx, referral, user, cause) : referral;
}

async function reverseIfConverted(tx: Tx, user: User, cause: Cause): Promise<Referral | null> {
  const referral = await tx.referral.findUnique({ where: { referredId: user.id } });
  if (!referral?.convertedAt || referral.reversedAt) return referral;
  return reverseConversion(tx, referral, user, cause);
}
