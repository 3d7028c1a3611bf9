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
  const entries = await db.$queryRaw<(CreditEntry & { referrerId: string | null })[]>`
    SELECT e.*, r."referrerId" FROM "CreditEntry" AS e LEFT JOIN "Referral" AS r ON r."id" = e."referralId"
    WHERE e."userId" = ${userId} AND e."seq" > ${after} ORDER BY e."seq"`;
  return entries.map(({ referrerId, ...entry }) => ({
    ...entry,
    side: sideOf(entry.referralId, referrerId, userId),
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

function sideOf(referralId: string | null, referrerId: string | null, userId: string): ToldEntry['side'] {
  if (referralId === null) return null;
  return referrerId === userId ? 'referrer' : 'referred';
}
