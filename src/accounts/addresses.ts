import type { Prisma, User } from '../db/generated/client.ts';
import type { Tx } from '../db/transaction.ts';

/** The `emailHash` of a tombstone whose address does not count. No real address hashes to it. */
export const NO_ADDRESS = '';

/**
 * Decides whether an address still counts as a person's after their account leaves it (design: rule 11). It
 * counts if the address or a payment was proven while the account had it. Otherwise it may be someone else's,
 * and a trial that was used with it no longer counts against it.
 * @param user locked
 * @returns whether it counts from now on
 */
export async function leaveAddress(tx: Tx, user: User): Promise<boolean> {
  // A payment in the same second in which the address was set may be older than the address, so it does not
  // count.
  if (user.emailProvenAt !== null || (await hasPaid(tx, user.id, user.emailSetAt))) return true;
  await tx.subscription.updateMany({
    where: { trialHash: user.emailHash, customer: { userId: user.id } },
    data: { trialHash: null },
  });
  return false;
}

/**
 * Whether an account loses its address to whoever proves it (design: rule 12): the address was never proven
 * and nothing was ever paid.
 * @param client the database, or the transaction that holds the user's lock
 */
export async function isUnclaimed(client: Prisma.TransactionClient, user: User): Promise<boolean> {
  return user.emailProvenAt === null && !(await hasPaid(client, user.id, null));
}

/** @param after count only payments later than this; null counts all */
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
