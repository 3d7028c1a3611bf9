import { setImmediate as nextTurn } from 'node:timers/promises';

import { instantText, JSON_ROWS, jsonValue } from '../db/columns.ts';
import { Prisma } from '../db/generated/client.ts';
import type { Db, Engine, Reader, Tx } from '../db/transaction.ts';
import { inTransaction } from '../db/transaction.ts';
import type { StripeEvent } from './objects/event.ts';
import { thinPayload } from './objects/thin.ts';

/** What came of an event. */
export const EVENT_STATUSES = ['applied', 'ignored', 'failed'] as const;
export type EventStatus = (typeof EVENT_STATUSES)[number];

export interface Claim {
  event: StripeEvent;
  /** The body as received. */
  payload: string;
  /** Why the event is ignored; null when it is to be applied. */
  reason: string | null;
}

/**
 * Claims events for this transaction: new ones, and those that failed before. Once it commits, those that were applied
 * or ignored are final.
 *
 * @param claims each event once
 * @returns the ids of the claimed events and, for each, whether stored rows lead from it to a deleted account; all other
 *   events are duplicates
 */
export async function claimEvents(tx: Tx, claims: readonly Claim[]): Promise<ReadonlyMap<string, boolean>> {
  const rows = claims
    .toSorted((a, b) => (a.event.id < b.event.id ? -1 : 1))
    .map(({ event: { id, type, created, customerId, aboutId }, payload, reason }) => [
      id,
      type,
      instantText(created, tx.engine),
      instantText(tx.now, tx.engine),
      reason === null ? 'applied' : 'ignored',
      reason,
      payload,
      customerId,
      aboutId,
      instantText(tx.now, tx.engine),
    ]);
  const claimed = await tx.$queryRawUnsafe<{ id: string; ofDeleted: boolean | number }[]>(
    CLAIM[tx.engine],
    JSON.stringify(rows),
  );
  return new Map(claimed.map(({ id, ofDeleted }) => [id, Boolean(ofDeleted)]));
}

function claimStatement(engine: Engine): string {
  const types = [
    'text',
    'text',
    'instant',
    'instant',
    'text',
    'text',
    'text',
    'text',
    'text',
    'instant',
  ] as const;
  const values = types.map((type, index) => jsonValue(engine, index, type));
  return `
    INSERT INTO "Event" ("id", "type", "created", "receivedAt", "status", "reason", "payload", "customerId",
      "aboutId", "appliedAt")
    SELECT ${values.join(', ')} FROM ${JSON_ROWS[engine]} WHERE true
    ON CONFLICT ("id") DO UPDATE SET "status" = excluded."status", "reason" = excluded."reason", "error" = NULL,
      "payload" = excluded."payload", "customerId" = excluded."customerId", "aboutId" = excluded."aboutId",
      "appliedAt" = excluded."appliedAt"
    WHERE "Event"."status" = 'failed'
    RETURNING "id", EXISTS (SELECT 1 FROM "Customer" AS c JOIN "User" AS u ON u."id" = c."userId"
      WHERE u."deletedAt" IS NOT NULL AND c."id" = COALESCE("Event"."customerId",
        (SELECT s."customerId" FROM "Invoice" AS i JOIN "Subscription" AS s ON s."id" = i."subscriptionId"
          WHERE i."id" = COALESCE((SELECT p."invoiceId" FROM "Payment" AS p WHERE p."id" = "Event"."aboutId"),
            "Event"."aboutId")))) AS "ofDeleted"`;
}

const CLAIM: Readonly<Record<Engine, string>> = {
  sqlite: claimStatement('sqlite'),
  postgresql: claimStatement('postgresql'),
};

/**
 * Whether an event was applied or ignored before. Only `true` is final: the query runs outside any transaction, so the
 * event may be in progress elsewhere. `claimEvents` decides.
 */
export async function isDuplicate(db: Db, eventId: string): Promise<boolean> {
  const rows = await db.$queryRaw<unknown[]>`
    SELECT 1 FROM "Event" WHERE "id" = ${eventId} AND "status" <> 'failed'`;
  return rows.length > 0;
}

export interface Verdict {
  id: string;
  status: Exclude<EventStatus, 'applied'>;
  /** The reason it was ignored, or the error. */
  why: string;
}

/** Records the outcome of claimed events that were not applied. */
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
 * Records that an event failed, in a transaction of its own: the one that handled it was rolled back, or never began.
 * If the event was applied or ignored elsewhere meanwhile, that stands.
 *
 * @param payload the body as received
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
      INSERT INTO "Event" ("id", "type", "created", "receivedAt", "status", "error", "payload", "customerId",
                           "aboutId")
      VALUES (${event.id}, ${event.type}, ${event.created}, ${tx.now}, 'failed', ${error}, ${payload},
              ${event.customerId}, ${event.aboutId})
      ON CONFLICT ("id") DO UPDATE SET "error" = excluded."error"
      WHERE "Event"."status" = 'failed'`;
  });
}

/**
 * Selects the ids of the events about an account: those that name one of its customers, and those that name no
 * customer, but do name one of its invoices (`invoice_payment.*`) or payments (disputes and refunds).
 *
 * @param which a further condition on the event `e`
 */
export function eventsAbout(userId: string, which: Prisma.Sql): Prisma.Sql {
  // One branch for each index: with an OR of subqueries, PostgreSQL would read the whole table.
  return Prisma.sql`
    WITH customers AS (SELECT "id" FROM "Customer" WHERE "userId" = ${userId}),
    invoices AS (
      SELECT i."id" FROM "Invoice" AS i JOIN "Subscription" AS s ON s."id" = i."subscriptionId"
      WHERE s."customerId" IN (SELECT "id" FROM customers)),
    objects AS (
      SELECT "id" FROM invoices UNION ALL
      SELECT "id" FROM "Payment" WHERE "invoiceId" IN (SELECT "id" FROM invoices))
    SELECT e."id" FROM "Event" AS e
    WHERE ${which} AND e."id" IN (
      SELECT "id" FROM "Event" WHERE "customerId" IN (SELECT "id" FROM customers) UNION ALL
      SELECT "id" FROM "Event" WHERE "aboutId" IN (SELECT "id" FROM objects))`;
}

/** Payloads that can be thinned. Failed events keep theirs until they are applied. */
export const CAN_BE_THINNED = { status: { not: 'failed' }, thinned: false, payload: { not: null } };

/**
 * Thins event payloads to the fields that we read.
 *
 * @returns the ids of the thinned events
 */
export async function thinEvents(tx: Tx, which: Prisma.EventWhereInput): Promise<string[]> {
  const events = await tx.event.findMany({
    where: { ...which, ...CAN_BE_THINNED },
    orderBy: { id: 'asc' },
    select: { id: true, payload: true },
  });
  const thin = events.flatMap(({ id, payload }) => (payload === null ? [] : [[id, thinPayload(payload)]]));
  if (thin.length > 0) await tx.$executeRawUnsafe(THIN[tx.engine], JSON.stringify(thin));
  return events.map(({ id }) => id);
}

function thinStatement(engine: Engine): string {
  return `
    UPDATE "Event" SET "payload" = v.value ->> 1, "thinned" = true
    FROM ${JSON_ROWS[engine]} WHERE "Event"."id" = v.value ->> 0`;
}

const THIN: Readonly<Record<Engine, string>> = {
  sqlite: thinStatement('sqlite'),
  postgresql: thinStatement('postgresql'),
};

/** Events that one transaction thins: few, so that others never wait long for the lock. */
export const THINNED_AT_ONCE = 50;

/** Thins up to THINNED_AT_ONCE events about a user, in the transaction that deletes the account. */
export async function thinSomeEventsAbout(tx: Tx, userId: string): Promise<void> {
  await thinEvents(tx, { id: { in: await wholeEventsAbout(tx, userId, THINNED_AT_ONCE) } });
}

/**
 * Thins all events about a deleted account, in small transactions, so that other writers get their turn: anybody can
 * cause thousands of events in the customer portal.
 *
 * @returns how many
 */
export async function thinEventsAbout(db: Db, userId: string, now: Date): Promise<number> {
  const whole = await wholeEventsAbout(db, userId);
  let thinned = 0;
  for (let from = 0; from < whole.length; from += THINNED_AT_ONCE) {
    const ids = whole.slice(from, from + THINNED_AT_ONCE);
    thinned += (await inTransaction(db, now, (tx) => thinEvents(tx, { id: { in: ids } }))).length;
    // SQLite answers without yielding.
    await nextTurn();
  }
  return thinned;
}

/** The ids of the events about a user that can be thinned. */
async function wholeEventsAbout(db: Reader, userId: string, most: number | null = null): Promise<string[]> {
  const whole = Prisma.sql`NOT e."thinned" AND e."status" <> 'failed' AND e."payload" IS NOT NULL`;
  const limit = most === null ? Prisma.empty : Prisma.sql` LIMIT ${most}`;
  const events = await db.$queryRaw<{ id: string }[]>`${eventsAbout(userId, whole)}${limit}`;
  return events.map(({ id }) => id);
}
