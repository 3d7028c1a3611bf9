import { Prisma } from '../db/generated/client.ts';
import type { OutboxItem } from '../db/generated/client.ts';
import { inTransaction } from '../db/transaction.ts';
import type { Db } from '../db/transaction.ts';
import { addSeconds, secondsBetween } from '../instants.ts';
import { pauseAfter } from './retries.ts';

/** How long an item belongs to the server that took it, s. A server that ends before it is done leaves it to the others. */
const LEASE_SECONDS = 180;

/**
 * Takes items that are due: no other server takes them until the lease is over.
 *
 * @param db the database
 * @param now the instant, UTC
 * @param limit how many at most
 * @returns them, the one that has been due for longest first
 */
export async function takeDue(db: Db, now: Date, limit: number): Promise<OutboxItem[]> {
  // Mostly nothing is due, and asking takes no lock.
  const due = { status: 'queued', dueAt: { lte: now } };
  if (!(await db.outboxItem.findFirst({ where: due, select: { id: true } }))) return [];
  const items = await inTransaction(db, now, (tx) => {
    const until = addSeconds(tx.now, LEASE_SECONDS);
    const ids = Prisma.sql`
      SELECT "id" FROM "OutboxItem" WHERE "status" = 'queued' AND "dueAt" <= ${tx.now}
      ORDER BY "dueAt", "id" LIMIT ${limit}`;
    const chosen =
      tx.engine === 'sqlite'
        ? Prisma.sql`IN (${ids})`
        : Prisma.sql`= ANY(ARRAY(${ids} FOR UPDATE SKIP LOCKED))`;
    return tx.$queryRaw<OutboxItem[]>`
      UPDATE "OutboxItem" SET "dueAt" = ${until} WHERE "id" ${chosen} RETURNING *`;
  });
  return items.sort((a, b) => a.createdAt.getTime() - b.createdAt.getTime());
}

/** What a try came to. */
export type Outcome =
  | { status: 'done' }
  /** It was no longer true. */
  | { status: 'dropped'; why: string }
  /** Another try cannot help. */
  | { status: 'failed'; why: string }
  | { status: 'again'; why: string };

/**
 * Keeps what a try came to. An item that has ended keeps no address.
 *
 * @param db the database
 * @param item as it was taken
 * @param outcome what the try came to
 * @param now the instant, UTC
 * @returns the same; `failed` when that was the last try
 */
export async function keepOutcome(db: Db, item: OutboxItem, outcome: Outcome, now: Date): Promise<Outcome> {
  const attempts = outcome.status === 'dropped' ? item.attempts : item.attempts + 1;
  const pause = outcome.status === 'again' ? pauseAfter(attempts, Math.random()) : null;
  const kept: Outcome =
    outcome.status === 'again' && pause === null ? { ...outcome, status: 'failed' } : outcome;
  const error = 'why' in kept ? kept.why : null;
  // A try that took longer than its lease may not undo what another server did meanwhile; but done is done.
  const isOurs = { id: item.id, status: 'queued', ...(kept.status !== 'done' && { dueAt: item.dueAt }) };
  await inTransaction(db, now, (tx) =>
    tx.outboxItem.updateMany({
      where: isOurs,
      data:
        kept.status === 'again'
          ? { attempts, error, dueAt: addSeconds(tx.now, pause ?? 0) }
          : { attempts, error, status: kept.status, endedAt: tx.now, address: null },
    }),
  );
  return kept;
}

/** What waits in the outbox, and what failed. */
export interface OutboxState {
  queued: number;
  failed: number;
  /** How long the oldest one has waited, s; null when none waits. */
  oldestSeconds: number | null;
}

/**
 * @param db the database
 * @param now the instant, UTC
 * @returns what waits in the outbox, and what failed
 */
export async function readOutboxState(db: Db, now: Date): Promise<OutboxState> {
  const groups = await db.outboxItem.groupBy({
    by: ['status'],
    where: { status: { in: ['queued', 'failed'] } },
    _count: true,
    _min: { createdAt: true },
  });
  const of = (status: string) => groups.find((group) => group.status === status);
  const oldest = of('queued')?._min.createdAt ?? null;
  return {
    queued: of('queued')?._count ?? 0,
    failed: of('failed')?._count ?? 0,
    oldestSeconds: oldest && Math.max(0, secondsBetween(oldest, now)),
  };
}
