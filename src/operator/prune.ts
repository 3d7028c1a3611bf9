import { setTimeout as sleep } from 'node:timers/promises';

import { forgetMailboxes } from '../accounts/mail-limit.ts';
import type { Db, Tx } from '../db/transaction.ts';
import { engineOf, inTransaction } from '../db/transaction.ts';
import { addSeconds, DAY_SECONDS, wholeSeconds } from '../instants.ts';
import { PROVE_SECONDS } from '../outbox/links.ts';
import { CAN_BE_THINNED, thinEvents, thinEventsAbout, THINNED_AT_ONCE } from '../stripe/event-ledger.ts';
import { counted } from '../wording.ts';
import type { CommandContext, CommandResult } from './command.ts';

/**
 * `prune`: does what `pruneDatabase` does, then empties SQLite's write-ahead log.
 */
export async function prune({ db, config, now }: CommandContext): Promise<CommandResult> {
  const pruned = await pruneDatabase(db, config.eventRetentionDays, now);
  const isLogEmpty = await emptyWriteAheadLog(db);
  const { events, sessions, resetLinks, outboxItems } = pruned;
  const text =
    `Thinned ${counted(events, 'event')}; deleted ${counted(sessions, 'expired session')}, ` +
    `${counted(resetLinks, 'expired reset link')}, and ` +
    `${counted(outboxItems, 'old outbox item')} (emails and changes at Stripe).` +
    (isLogEmpty ? '' : ' The write-ahead log could not be emptied, because the database is busy.');
  return { text, json: { ...pruned, writeAheadLogEmptied: isLogEmpty } };
}

/** Rows that one transaction deletes. */
const DELETED_AT_ONCE = 500;

/**
 * The row of a sent reminder prevents a second one. Reminders are sent a week before the free days end, so this must be
 * more than a week.
 */
const OUTBOX_DAYS = 30;

export interface Pruned {
  events: number;
  sessions: number;
  resetLinks: number;
  /** Outbox items (emails and changes at Stripe) that ended long ago. */
  outboxItems: number;
}

/**
 * Thins the payloads of applied or ignored events that are old, or about a deleted account, to the fields that we read;
 * deletes expired sessions, expired reset links and old items of the outbox that have ended; forgets changes of address
 * that were never proven, and which mailboxes were sent emails more than a day ago. Failed events stay whole, so that they
 * can be replayed.
 *
 * @param retentionDays EVENT_RETENTION_DAYS, counted from an event's receipt, or from the end of an outbox item
 *   (which stays for at least OUTBOX_DAYS)
 * @returns how many rows of each kind were thinned or deleted
 */
async function pruneDatabase(db: Db, retentionDays: number, now: Date): Promise<Pruned> {
  const before = addSeconds(now, -retentionDays * DAY_SECONDS);
  await forgetLapsedChanges(db, now);
  // A server does this only while mail is on.
  await forgetMailboxes(db, now);
  const ended = { where: { expiresAt: { lte: wholeSeconds(now) } }, limit: DELETED_AT_ONCE };
  const keptDays = Math.max(retentionDays, OUTBOX_DAYS);
  const endedBefore = addSeconds(now, -keptDays * DAY_SECONDS);
  const endedInOutbox = { where: { endedAt: { lt: endedBefore } }, limit: DELETED_AT_ONCE };
  return {
    events: (await thinOldEvents(db, before, now)) + (await thinEventsOfDeleted(db, before, now)),
    sessions: await deleteAll(db, now, (tx) => tx.session.deleteMany(ended)),
    resetLinks: await deleteAll(db, now, (tx) => tx.resetLink.deleteMany(ended)),
    outboxItems: await deleteAll(db, now, (tx) => tx.outboxItem.deleteMany(endedInOutbox)),
  };
}

/** How often, and for how long, emptying the log is tried while servers use the database, ms. */
const TRY_EVERY_MS = 20;
const TRY_FOR_MS = 10_000;

/**
 * Empties SQLite's write-ahead log, which keeps what was deleted until it is overwritten.
 * https://www.sqlite.org/pragma.html#pragma_wal_checkpoint
 *
 * @returns whether it is empty; true on PostgreSQL
 */
async function emptyWriteAheadLog(db: Db): Promise<boolean> {
  if (engineOf(db) === 'postgresql') return true;
  const giveUpAt = performance.now() + TRY_FOR_MS;
  for (;;) {
    const [done] = await db.$queryRaw<{ busy: number | bigint }[]>`PRAGMA wal_checkpoint(TRUNCATE)`;
    if (Number(done?.busy) === 0) return true;
    if (performance.now() >= giveUpAt) return false;
    await sleep(TRY_EVERY_MS);
  }
}

/** An address that was never proven may be somebody else's. */
async function forgetLapsedChanges(db: Db, now: Date): Promise<void> {
  const lapsed = { pendingEmailAt: { lte: addSeconds(wholeSeconds(now), -PROVE_SECONDS) } };
  await inTransaction(db, now, (tx) =>
    tx.user.updateMany({ where: lapsed, data: { pendingEmail: null, pendingEmailAt: null } }),
  );
}

/**
 * Thins events about accounts that were deleted since `before`. Deletion does so, too, but cannot see an event that is
 * stored at the same instant, and it may have been interrupted.
 */
async function thinEventsOfDeleted(db: Db, before: Date, now: Date): Promise<number> {
  const deleted = await db.user.findMany({ where: { deletedAt: { gte: before } }, select: { id: true } });
  let thinned = 0;
  for (const { id } of deleted) thinned += await thinEventsAbout(db, id, now);
  return thinned;
}

/** Deletes batch by batch until one is not full. */
async function deleteAll(
  db: Db,
  now: Date,
  deleteBatch: (tx: Tx) => Promise<{ count: number }>,
): Promise<number> {
  let deleted = 0;
  for (;;) {
    const { count } = await inTransaction(db, now, deleteBatch);
    deleted += count;
    if (count < DELETED_AT_ONCE) return deleted;
  }
}

async function thinOldEvents(db: Db, before: Date, now: Date): Promise<number> {
  let thinned = 0;
  let after = '';
  for (;;) {
    // Looked for outside the transaction: on SQLite, reading all events would keep servers waiting for the lock.
    const found = await db.event.findMany({
      where: { id: { gt: after }, receivedAt: { lt: before }, ...CAN_BE_THINNED },
      orderBy: { id: 'asc' },
      take: THINNED_AT_ONCE,
      select: { id: true },
    });
    const ids = found.map(({ id }) => id);
    const last = ids.at(-1);
    if (last === undefined) return thinned;
    thinned += (await inTransaction(db, now, (tx) => thinEvents(tx, { id: { in: ids } }))).length;
    // Continue by id, so that no event is read twice.
    after = last;
  }
}
