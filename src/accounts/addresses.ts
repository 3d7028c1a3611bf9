import type { User } from '../db/generated/client.ts';
import type { Tx } from '../db/transaction.ts';

/** The `emailHash` of a tombstone whose address does not count. No address has it. */
export const NO_ADDRESS = '';

/**
 * Whether an address still counts as a person's once their account has left it (design: rule 11): it was proven, or a
 * payment was, while the account had it. Any other one may be somebody else's, and a trial given to it is given back.
 *
 * @param tx the open transaction
 * @param user the locked user, who is about to leave the address
 * @returns whether it counts from now on
 */
export async function leaveAddress(tx: Tx, user: User): Promise<boolean> {
  if (user.emailProvenAt !== null || (await wasPaidUnder(tx, user))) return true;
  await tx.subscription.updateMany({
    where: { trialHash: user.emailHash, customer: { userId: user.id } },
    data: { trialHash: null },
  });
  return false;
}

/** A payment in the very second in which the address was taken may be older than it, and does not count. */
async function wasPaidUnder(tx: Tx, { id, emailSetAt }: User): Promise<boolean> {
  const since = emailSetAt === null ? { not: null } : { gt: emailSetAt };
  const paid = await tx.subscription.count({
    where: {
      customer: { userId: id },
      OR: [{ provenAt: since }, { invoices: { some: { positive: true, paidAt: since } } }],
    },
  });
  return paid > 0;
}
