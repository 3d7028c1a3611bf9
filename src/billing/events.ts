import type { Prisma } from '../db/generated/client.ts';
import type { Db, Tx } from '../db/transaction.ts';
import { inTransaction } from '../db/transaction.ts';
import type { StripeEvent } from './stripe-shapes/event.ts';
import { thinPayload } from './stripe-shapes/thin.ts';

/**
 * Claims an event for this transaction: a new one, or one that failed before. What its row says from here on becomes
 * true with the commit.
 *
 * @param tx the open transaction
 * @param event the event
 * @param payload its body, as received
 * @param reason why it is ignored, for people; null when it is to be applied
 * @returns false when the event was applied or ignored before: a duplicate
 */
export async function claimEvent(
  tx: Tx,
  event: StripeEvent,
  payload: string,
  reason: string | null,
): Promise<boolean> {
  const { id, type, created, customerId } = event;
  const status = reason === null ? 'applied' : 'ignored';
  const claimed = await tx.$executeRaw`
    INSERT INTO "Event" ("id", "type", "created", "receivedAt", "status", "reason", "payload", "customerId")
    VALUES (${id}, ${type}, ${created}, ${tx.now}, ${status}, ${reason}, ${payload}, ${customerId})
    ON CONFLICT ("id") DO UPDATE SET "status" = excluded."status", "reason" = excluded."reason", "error" = NULL,
      "payload" = excluded."payload", "customerId" = excluded."customerId"
    WHERE "Event"."status" = 'failed'`;
  return claimed === 1;
}

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

/**
 * Records that a claimed event changed nothing.
 *
 * @param tx the transaction that claimed it
 * @param eventId the event
 * @param reason why, for people
 */
export async function markIgnored(tx: Tx, eventId: string, reason: string): Promise<void> {
  await tx.$executeRaw`UPDATE "Event" SET "status" = 'ignored', "reason" = ${reason} WHERE "id" = ${eventId}`;
}

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
