import type { CreditEntry, User } from '../db/generated/client.ts';
import type { Db } from '../db/transaction.ts';
import { inTransaction } from '../db/transaction.ts';

/** An entry of somebody's credit ledger, and whether its referral is one that they made or the one they came by. */
export type ToldEntry = CreditEntry & { side: 'referrer' | 'referred' | null };

/**
 * @param db the database
 * @param userId whose ledger
 * @param after the sequence number after which to begin; 0 for all
 * @returns the entries in order
 */
export async function entriesWithSides(db: Db, userId: string, after: number): Promise<ToldEntry[]> {
  const entries = await db.creditEntry.findMany({
    where: { userId, seq: { gt: after } },
    orderBy: { seq: 'asc' },
    include: { referral: { select: { referrerId: true } } },
  });
  return entries.map(({ referral, ...entry }) => ({
    ...entry,
    side: referral && (referral.referrerId === userId ? 'referrer' : 'referred'),
  }));
}

/**
 * What moved a user's credit since they were last told; from now on they have been. Of two pages opened at once, one gets
 * it. Costs nothing when there is no news.
 *
 * @param db the database
 * @param user the user's row
 * @param now the instant, UTC
 * @returns the new entries of their ledger, in order
 */
export async function takeCreditNews(db: Db, user: User, now: Date): Promise<ToldEntry[]> {
  const { id, creditEntriesSeen } = user;
  if (creditEntriesSeen >= user.creditEntryCount) return [];
  const entries = await entriesWithSides(db, id, creditEntriesSeen);
  const last = entries.at(-1);
  if (!last) return [];
  const told = await inTransaction(db, now, (tx) =>
    tx.user.updateMany({ where: { id, creditEntriesSeen }, data: { creditEntriesSeen: last.seq } }),
  );
  return told.count === 1 ? entries : [];
}
