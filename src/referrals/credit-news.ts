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
 * What moved a user's credit since they were last told. Costs nothing when there is no news.
 *
 * @param db the database
 * @param user the user's row
 * @returns the new entries of their ledger, in order
 */
export async function readCreditNews(db: Db, user: User): Promise<ToldEntry[]> {
  const { id, creditEntriesSeen } = user;
  return creditEntriesSeen < user.creditEntryCount ? entriesWithSides(db, id, creditEntriesSeen) : [];
}

/**
 * Notes that a user was told of their credit, so that they are not told again.
 *
 * @param db the database
 * @param userId whom
 * @param seq the sequence number of the last entry that they were told of
 * @param now the instant, UTC
 */
export async function markCreditNewsSeen(db: Db, userId: string, seq: number, now: Date): Promise<void> {
  await inTransaction(db, now, (tx) =>
    tx.user.updateMany({
      where: { id: userId, creditEntriesSeen: { lt: seq } },
      data: { creditEntriesSeen: seq },
    }),
  );
}

function sideOf(referralId: string | null, referrerId: string | null, userId: string): ToldEntry['side'] {
  if (referralId === null) return null;
  return referrerId === userId ? 'referrer' : 'referred';
}
