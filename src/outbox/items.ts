import { Prisma } from '../db/generated/client.ts';
import type { OutboxItem } from '../db/generated/client.ts';
import { inTransaction } from '../db/transaction.ts';
import type { Db } from '../db/transaction.ts';
import { addSeconds, secondsBetween } from '../instants.ts';
import type { OutboxKind } from './kinds.ts';
import { pauseAfter } from './retries.ts';

/** Lease on an item, s. If a server dies while it holds the lease, another one takes the item afterwards. */
export const LEASE_SECONDS = 180;

/** Somebody is waiting for these, or they protect an account, so they must not queue behind thousands of reminders. */
const URGENT: readonly OutboxKind[] = [
  'mail.reset-password',
  'mail.password-changed',
  'mail.address-changing',
  'mail.address-changed',
  'mail.account-deleted',
  'stripe.expire-checkout',
  'stripe.customer-address',
];

/**
 * Somebody is waiting for these too, but anybody can queue thousands of them by signing up, so the urgent ones come
 * first.
 */
const PROOF: OutboxKind = 'mail.prove-address';

/** These items keep their priority for this many attempts, because greylisting refuses the first one or two. */
const EARLY_ATTEMPTS = 3;

/**
 * Takes due items and leases them, so that no other server takes them at the same time: first urgent items with few
 * attempts, then address proofs with few attempts, then other items that were never tried, then the rest. A mail server
 * that keeps refusing somebody delays nobody else.
 *
 * @returns at most `limit` items, oldest first
 */
export async function takeDue(db: Db, now: Date, limit: number): Promise<OutboxItem[]> {
  // Usually nothing is due, and this read takes no lock.
  const due = { status: 'queued', dueAt: { lte: now } };
  if (!(await db.outboxItem.findFirst({ where: due, select: { id: true } }))) return [];
  const items = await inTransaction(db, now, (tx) => {
    const until = addSeconds(tx.now, LEASE_SECONDS);
    const ids = Prisma.sql`
      SELECT "id" FROM "OutboxItem" WHERE "status" = 'queued' AND "dueAt" <= ${tx.now}
      ORDER BY CASE
        WHEN "kind" IN (${Prisma.join(URGENT)}) AND "attempts" < ${EARLY_ATTEMPTS} THEN "attempts"
        WHEN "kind" = ${PROOF} AND "attempts" < ${EARLY_ATTEMPTS} THEN ${EARLY_ATTEMPTS} + "attempts"
        WHEN "attempts" = 0 THEN ${2 * EARLY_ATTEMPTS} ELSE ${2 * EARLY_ATTEMPTS} + 1 END, "dueAt", "id"
      LIMIT ${limit}`;
    const chosen =
      tx.engine === 'sqlite'
        ? Prisma.sql`IN (${ids})`
        : Prisma.sql`= ANY(ARRAY(${ids} FOR UPDATE SKIP LOCKED))`;
    return tx.$queryRaw<OutboxItem[]>`
      UPDATE "OutboxItem" SET "dueAt" = ${until} WHERE "id" ${chosen} RETURNING *`;
  });
  return items.sort((a, b) => a.createdAt.getTime() - b.createdAt.getTime());
}

/** Why an item waits. It has not failed, so none of these raises an alarm. */
export const WAITS = {
  forOlder: 'An older email about the same days comes first.',
  forOthers: 'Other emails to this unproven address are queued, and may be the last ones of the day.',
} as const;

/** The result of an attempt. */
export type Outcome =
  | { status: 'done' }
  /** It was no longer true, or no longer needed. */
  | { status: 'dropped'; why: string }
  /** Trying again cannot help. */
  | { status: 'failed'; why: string }
  | { status: 'again'; why: string }
  /** It was not tried, because something else must end first. This uses up no attempt. */
  | { status: 'waits'; why: (typeof WAITS)[keyof typeof WAITS]; until: Date };

/**
 * Stores the outcome of an attempt. The address is deleted once the item has ended, and the mailbox if it was dropped.
 *
 * @param item as `takeDue` returned it
 * @returns the outcome as stored: `again` becomes `failed` after the last attempt
 */
export async function keepOutcome(db: Db, item: OutboxItem, outcome: Outcome, now: Date): Promise<Outcome> {
  const wasTried = outcome.status !== 'dropped' && outcome.status !== 'waits';
  const attempts = item.attempts + (wasTried ? 1 : 0);
  const pause = outcome.status === 'again' ? pauseAfter(attempts, Math.random()) : null;
  const kept: Outcome =
    outcome.status === 'again' && pause === null ? { ...outcome, status: 'failed' } : outcome;
  const error = 'why' in kept ? kept.why : null;
  // If the attempt outlasted its lease, another server may have the item now. Only `done` may still be stored
  // then.
  const isOurs = { id: item.id, status: 'queued', ...(kept.status !== 'done' && { dueAt: item.dueAt }) };
  await inTransaction(db, now, (tx) =>
    tx.outboxItem.updateMany({
      where: isOurs,
      data:
        kept.status === 'again' || kept.status === 'waits'
          ? {
              attempts,
              error,
              dueAt: kept.status === 'waits' ? kept.until : addSeconds(tx.now, pause ?? 0),
            }
          : {
              attempts,
              error,
              status: kept.status,
              endedAt: tx.now,
              address: null,
              ...(kept.status === 'dropped' && { mailbox: null }),
            },
    }),
  );
  return kept;
}

export interface OutboxState {
  queued: number;
  failed: number;
  /** Age of the oldest queued item, s; null when none is queued. */
  oldestSeconds: number | null;
}

/** Counts the queued and failed items. */
export async function readOutboxState(db: Db, now: Date): Promise<OutboxState> {
  const queued = await db.outboxItem.aggregate({
    where: { status: 'queued' },
    _count: true,
    _min: { createdAt: true },
  });
  // Counted separately: the index is enough, and failed items are kept for months.
  const failed = await db.outboxItem.count({ where: { status: 'failed' } });
  const oldest = queued._min.createdAt;
  return {
    queued: queued._count,
    failed,
    oldestSeconds: oldest && Math.max(0, secondsBetween(oldest, now)),
  };
}
