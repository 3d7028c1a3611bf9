import { thinEvents } from '../billing/events.ts';
import type { Db } from '../db/transaction.ts';
import { inTransaction } from '../db/transaction.ts';
import { addSeconds, DAY_SECONDS } from '../instants.ts';

/** Events thinned in one transaction: few enough that nobody waits long for their turn. */
const BATCH = 300;

/** How many rows of each kind were thinned or deleted. */
export interface Pruned {
  events: number;
  sessions: number;
  resetLinks: number;
}

/**
 * Lets go of what is kept too long: thins the payload of every applied or ignored event to the fields that we read once
 * it is old enough, and deletes sessions and reset links that have ended. A failed event stays whole: it can be replayed.
 *
 * @param db the database
 * @param retentionDays EVENT_RETENTION_DAYS: how long after its receipt a payload stays whole
 * @param now the instant, UTC
 * @returns how many of each
 */
export async function pruneDatabase(db: Db, retentionDays: number, now: Date): Promise<Pruned> {
  const before = addSeconds(now, -retentionDays * DAY_SECONDS);
  const events = await thinOldEvents(db, before, now);
  const ended = await inTransaction(db, now, async (tx) => {
    const expired = { where: { expiresAt: { lte: tx.now } } };
    const sessions = await tx.session.deleteMany(expired);
    const resetLinks = await tx.resetLink.deleteMany(expired);
    return { sessions: sessions.count, resetLinks: resetLinks.count };
  });
  return { events, ...ended };
}

async function thinOldEvents(db: Db, before: Date, now: Date): Promise<number> {
  let thinned = 0;
  let after = '';
  for (;;) {
    // Going on by id reads no event twice.
    const which = { id: { gt: after }, receivedAt: { lt: before } };
    const ids = await inTransaction(db, now, (tx) => thinEvents(tx, which, BATCH));
    const last = ids.at(-1);
    if (last === undefined) return thinned;
    thinned += ids.length;
    after = last;
  }
}
