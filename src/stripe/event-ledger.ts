import type { Prisma } from '../db/generated/client.ts';
import { instantText, JSON_ROWS, jsonValue } from '../db/columns.ts';
import type { Db, Engine, Tx } from '../db/transaction.ts';
import { inTransaction } from '../db/transaction.ts';
import type { StripeEvent } from './objects/event.ts';
import { thinPayload } from './objects/thin.ts';

/** An event as it is claimed. */
export interface Claim {
  event: StripeEvent;
  /** Its body, as received. */
  payload: string;
  /** Why it is ignored, for people; null when it is to be applied. */
  reason: string | null;
}

/**
 * Claims events for this transaction: new ones, and those that failed before. What their rows say from here on becomes true
 * with the commit.
 *
 * @param tx the open transaction
 * @param claims each event once
 * @returns the ids of those that were neither applied nor ignored before
 */
export async function claimEvents(tx: Tx, claims: readonly Claim[]): Promise<ReadonlySet<string>> {
  const rows = claims
    .toSorted((a, b) => (a.event.id < b.event.id ? -1 : 1))
    .map(({ event: { id, type, created, customerId }, payload, reason }) => [
      id,
      type,
      instantText(created, tx.engine),
      instantText(tx.now, tx.engine),
      reason === null ? 'applied' : 'ignored',
      reason,
      payload,
      customerId,
      instantText(tx.now, tx.engine),
    ]);
  const claimed = await tx.$queryRawUnsafe<{ id: string }[]>(CLAIM[tx.engine], JSON.stringify(rows));
  return new Set(claimed.map(({ id }) => id));
}

function claimStatement(engine: Engine): string {
  const types = ['text', 'text', 'instant', 'instant', 'text', 'text', 'text', 'text', 'instant'] as const;
  const values = types.map((type, index) => jsonValue(engine, index, type));
  return `
    INSERT INTO "Event" ("id", "type", "created", "receivedAt", "status", "reason", "payload", "customerId",
      "appliedAt")
    SELECT ${values.join(', ')} FROM ${JSON_ROWS[engine]} WHERE true
    ON CONFLICT ("id") DO UPDATE SET "status" = excluded."status", "reason" = excluded."reason", "error" = NULL,
      "payload" = excluded."payload", "customerId" = excluded."customerId", "appliedAt" = excluded."appliedAt"
    WHERE "Event"."status" = 'failed'
    RETURNING "id"`;
}

const CLAIM: Readonly<Record<Engine, string>> = {
  sqlite: claimStatement('sqlite'),
  postgresql: claimStatement('postgresql'),
};

/**
 * Whether an event was applied or ignored before. Asked outside any transaction: no answer but yes is final, since
 * somebody else may just be handling it, and `claimEvent` decides.
 *
 * @param db the database
 * @param eventId the event
 * @returns whether it is a duplicate
 */
export async function isDuplicate(db: Db, eventId: string): Promise<boolean> {
  const rows = await db.$queryRaw<unknown[]>`
    SELECT 1 FROM "Event" WHERE "id" = ${eventId} AND "status" <> 'failed'`;
  return rows.length > 0;
}

/** What became of a claimed event that was not applied. */
export interface Verdict {
  id: string;
  status: 'ignored' | 'failed';
  /** Why it was ignored, or the error, for people. */
  why: string;
}

/**
 * Records what became of claimed events that were not applied.
 *
 * @param tx the transaction that claimed them
 * @param verdicts one an event
 */
export async function recordVerdicts(tx: Tx, verdicts: readonly Verdict[]): Promise<void> {
  if (verdicts.length === 0) return;
  const rows = verdicts.map(({ id, status, why }) => [
    id,
    status,
    status === 'ignored' ? why : null,
    status === 'failed' ? why : null,
  ]);
  await tx.$executeRawUnsafe(VERDICT[tx.engine], JSON.stringify(rows));
}

function verdictStatement(engine: Engine): string {
  return `
    UPDATE "Event" SET "status" = v.value ->> 1, "reason" = v.value ->> 2, "error" = v.value ->> 3,
      "appliedAt" = CASE WHEN v.value ->> 1 = 'failed' THEN NULL ELSE "appliedAt" END
    FROM ${JSON_ROWS[engine]} WHERE "Event"."id" = v.value ->> 0`;
}

const VERDICT: Readonly<Record<Engine, string>> = {
  sqlite: verdictStatement('sqlite'),
  postgresql: verdictStatement('postgresql'),
};

/**
 * Records that handling an event failed, in a transaction of its own, after the one that tried was rolled back.
 * An event that somebody else has applied or ignored meanwhile stays so.
 *
 * @param db the database
 * @param event the event
 * @param payload its body, as received
 * @param error why, for people
 * @param now the instant, UTC
 */
export async function recordFailure(
  db: Db,
  event: StripeEvent,
  payload: string,
  error: string,
  now: Date,
): Promise<void> {
  await inTransaction(db, now, async (tx) => {
    await tx.$executeRaw`
      INSERT INTO "Event" ("id", "type", "created", "receivedAt", "status", "error", "payload", "customerId")
      VALUES (${event.id}, ${event.type}, ${event.created}, ${tx.now}, 'failed', ${error}, ${payload},
              ${event.customerId})
      ON CONFLICT ("id") DO UPDATE SET "error" = excluded."error"
      WHERE "Event"."status" = 'failed'`;
  });
}

/**
 * Thins the payloads of events to the fields that we read. One that failed keeps its payload until it is applied.
 *
 * @param tx the open transaction
 * @param which the events in question
 * @param limit how many at most, in the order of their ids; all when it is left out
 * @returns the ids of those that were thinned now
 */
export async function thinEvents(tx: Tx, which: Prisma.EventWhereInput, limit?: number): Promise<string[]> {
  const events = await tx.event.findMany({
    where: { ...which, status: { not: 'failed' }, thinned: false, payload: { not: null } },
    orderBy: { id: 'asc' },
    ...(limit !== undefined && { take: limit }),
    select: { id: true, payload: true },
  });
  for (const { id, payload } of events) {
    const thin = payload === null ? null : thinPayload(payload);
    await tx.event.update({ where: { id }, data: { payload: thin, thinned: true } });
  }
  return events.map(({ id }) => id);
}
