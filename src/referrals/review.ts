import type { Cause } from '../audit.ts';
import type { Referral, User } from '../db/generated/client.ts';
import type { Tx } from '../db/transaction.ts';
import { convertReferral } from './convert.ts';
import { restoreConversion, reverseConversion } from './reverse.ts';

/** What the facts say of a user's payments. */
export interface PaymentVerdict {
  /** One was made. */
  proven: boolean;
  /** Asks whether a subscription holds: its money came and did not go back. Only a converted referral needs to know. */
  holds: () => Promise<boolean>;
}

/**
 * Makes a user's referral follow the facts, whatever their order was: it converts with the first proof of payment, and
 * is reversed exactly while no subscription holds (design: rule 9). Called whenever a fact that
 * bears on that is new.
 *
 * @param tx the open transaction
 * @param user the referred user, locked
 * @param payment what the facts say of their payments
 * @param cause what brought the fact
 * @returns the referral as it is now, or null when the user was referred by nobody
 */
export async function reviewReferral(
  tx: Tx,
  user: User,
  payment: PaymentVerdict,
  cause: Cause,
): Promise<Referral | null> {
  const referral = payment.proven
    ? await convertReferral(tx, user)
    : await tx.referral.findUnique({ where: { referredId: user.id } });
  if (!referral?.convertedAt) return referral;
  const holds = await payment.holds();
  if (holds === (referral.reversedAt === null)) return referral;
  // Both move the buyer's credit: the row as it was locked may be older than the grant of just now.
  const current = await tx.user.findUniqueOrThrow({ where: { id: user.id } });
  return holds
    ? restoreConversion(tx, referral, current, cause)
    : reverseConversion(tx, referral, current, cause);
}

/**
 * @param tx the open transaction, which holds the user's lock
 * @param userId the referred user
 * @returns whether their referral has converted and stands reversed
 */
export async function isReversed(tx: Tx, userId: string): Promise<boolean> {
  const rows = await tx.$queryRaw<unknown[]>`
    SELECT 1 FROM "Referral" WHERE "referredId" = ${userId} AND "reversedAt" IS NOT NULL`;
  return rows.length > 0;
}
