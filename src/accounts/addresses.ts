import type { Prisma, User } from '../db/generated/client.ts';
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
  // A payment in the very second in which the address was taken may be older than it, and does not count.
  if (user.emailProvenAt !== null || (await hasPaid(tx, user.id, user.emailSetAt))) return true;
  await tx.subscription.updateMany({
    where: { trialHash: user.emailHash, customer: { userId: user.id } },
    data: { trialHash: null },
  });
  return false;
}

/**
 * Whether an account loses its address to whoever proves it (design: rule 12): nobody proved it, and nothing was ever paid.
 *
 * @param client the database, or the transaction that holds the user's lock
 */
export async function isUnclaimed(client: Prisma.TransactionClient, user: User): Promise<boolean> {
  return user.emailProvenAt === null && !(await hasPaid(client, user.id, null));
}

/** @param after only payments later than this count; null: all do */
async function hasPaid(
  client: Prisma.TransactionClient,
  userId: string,
  after: Date | null,
): Promise<boolean> {
  const since = after === null ? { not: null } : { gt: after };
  const paid = await client.subscription.count({
    where: {
      customer: { userId },
      OR: [{ provenAt: since }, { invoices: { some: { positive: true, paidAt: since } } }],
    },
  });
  return paid > 0;
}
