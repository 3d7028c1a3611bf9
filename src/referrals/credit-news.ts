import type { CreditEntry, User } from '../db/generated/client.ts';
import type { Db } from '../db/transaction.ts';
import { inTransaction } from '../db/transaction.ts';

/** A ledger entry, and the user's side of its referral; null when it has none. */
export type ToldEntry = CreditEntry & { side: 'referrer' | 'referred' | null };

/** A user's ledger entries after a sequence number (0 for all), in order. */
export async function entriesWithSides(db: Db, userId: string, after: number): Promise<ToldEntry[]> {
  const entries = await db.$queryRaw<(CreditEntry & { referrerId: string | null })[]>`
    SELECT e.*, r."referrerId" FROM "CreditEntry" AS e LEFT JOIN "Referral" AS r ON r."id" = e."referralId"
    WHERE e."userId" = ${userId} AND e."seq" > ${after} ORDER BY e."seq"`;
  return entries.map(({ referrerId, ...entry }) => ({
    ...entry,
    side: sideOf(entry.referralId, referrerId, userId),
  }));
}

/** The ledger entries that the user has not seen yet. Runs no statement when there are none. */
export async function readCreditNews(db: Db, user: User): Promise<ToldEntry[]> {
  const { id, creditEntriesSeen } = user;
  return creditEntriesSeen < user.creditEntryCount ? entriesWithSides(db, id, creditEntriesSeen) : [];
}

/** Records that the user has seen their ledger up to an entry. */
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
