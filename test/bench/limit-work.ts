import { randomUUID } from 'node:crypto';

import { DAY_SECONDS } from '../../src/instants.ts';

// What Tandem does for the events and the page that are measured, as bare SQL: the same statements in the same order,
// without a framework, an ORM or a question that these events do not ask. Both limits run it, each through its driver.

export interface Query {
  sql: string;
  args: unknown[];
}

type Row = Record<string, unknown>;

/** Yields statements, and gets the rows of each. */
export type Work<T> = Generator<Query, T, Row[]>;

export interface SubscriptionEvent {
  id: string;
  type: string;
  created: number;
  data: {
    object: {
      id: string;
      customer: string;
      status: string;
      created: number;
      items: { data: { price: { id: string }; current_period_end: number }[] };
    };
  };
}

/** How a database wants an instant, of epoch seconds. */
export type Instant = (seconds: number) => unknown;

const query = (sql: string, ...args: unknown[]): Query => ({ sql, args });
const DAYS_45 = 45 * DAY_SECONDS;

/** `customer.subscription.created` and `updated`: a conversion, a renewal, or a duplicate. */
export function* handleEvent(
  event: SubscriptionEvent,
  payload: string,
  nowSeconds: number,
  instant: Instant,
): Work<'ok' | 'duplicate'> {
  const { id, customer, status, created, items } = event.data.object;
  const [item] = items.data;
  const now = instant(nowSeconds);
  const at = instant(event.created);
  const known = yield query(`SELECT 1 FROM "Event" WHERE "id" = $1 AND "status" <> 'failed'`, event.id);
  if (known.length > 0) return 'duplicate';

  yield query('BEGIN');
  yield query(
    `INSERT INTO "Event" ("id", "type", "created", "receivedAt", "status", "reason", "payload", "customerId")
     VALUES ($1, $2, $3, $4, 'applied', NULL, $5, $6)
     ON CONFLICT ("id") DO UPDATE SET "status" = excluded."status", "error" = NULL, "payload" = excluded."payload"
     WHERE "Event"."status" = 'failed'`,
    event.id,
    event.type,
    at,
    now,
    payload,
    customer,
  );
  const [owner] = yield query(
    `INSERT INTO "Customer" ("id") VALUES ($1)
     ON CONFLICT ("id") DO UPDATE SET "deletedAt" = "Customer"."deletedAt" RETURNING *`,
    customer,
  );
  const [before] = yield query(
    `INSERT INTO "Subscription" ("id", "customerId") VALUES ($1, $2)
     ON CONFLICT ("id") DO UPDATE SET "checkoutUnpaid" = "Subscription"."checkoutUnpaid" RETURNING *`,
    id,
    customer,
  );
  const isNew = before?.['status'] === null;
  const state = [
    status,
    instant(created),
    item?.price.id,
    instant(item?.current_period_end ?? 0),
    at,
    event.id,
  ];
  if (!isNew) {
    yield query(
      `UPDATE "Subscription" SET "status" = $1, "createdAt" = $2, "priceId" = $3, "currentPeriodEnd" = $4,
         "snapshotAt" = $5, "snapshotEventId" = $6 WHERE "id" = $7`,
      ...state,
      id,
    );
    yield query('COMMIT');
    return 'ok';
  }
  yield query('SELECT * FROM "Invoice" WHERE "subscriptionId" = $1', id);
  yield query(
    `UPDATE "Subscription" SET "status" = $1, "createdAt" = $2, "priceId" = $3, "currentPeriodEnd" = $4,
       "snapshotAt" = $5, "snapshotEventId" = $6, "statusAt" = $7, "activeAt" = $8, "provenAt" = $9 WHERE "id" = $10`,
    ...state,
    at,
    at,
    now,
    id,
  );
  const buyer = yield* lockUser(owner?.['userId']);
  yield query(
    `SELECT s.* FROM "Subscription" AS s JOIN "Customer" AS c ON c."id" = s."customerId" WHERE c."userId" = $1`,
    buyer.id,
  );
  yield query(
    `INSERT INTO "CreditEntry" ("userId", "seq", "at", "kind", "seconds", "referralId", "causeId")
     VALUES ($1, $2, $3, 'hold', 0, NULL, $4)`,
    buyer.id,
    buyer.entries + 1,
    now,
    event.id,
  );
  yield query(
    `INSERT INTO "AuditRow" ("id", "userId", "at", "actor", "kind", "fromTier", "toTier", "causeId")
     VALUES ($1, $2, $3, 'stripe', 'tier', 'free', 'paid', $4)`,
    randomUUID(),
    buyer.id,
    now,
    event.id,
  );
  yield query(
    `UPDATE "User" SET "tier" = 'paid', "creditHeldAt" = $1, "creditEntryCount" = $2, "creditEntryAt" = $3
     WHERE "id" = $4`,
    now,
    buyer.entries + 1,
    now,
    buyer.id,
  );
  const [referral] = yield query(
    `UPDATE "Referral" SET "convertedAt" = $1, "creditedAt" = $2
     WHERE "referredId" = $3 AND "convertedAt" IS NULL RETURNING *`,
    now,
    now,
    buyer.id,
  );
  const referrer = yield* lockUser(referral?.['referrerId']);
  yield query(
    `INSERT INTO "CreditEntry" ("userId", "seq", "at", "kind", "seconds", "referralId", "causeId")
     VALUES ($1, $2, $3, 'grant', $4, $5, $6), ($7, $8, $9, 'grant', $10, $11, $12)`,
    buyer.id,
    buyer.entries + 2,
    now,
    DAYS_45,
    referral?.['id'],
    referral?.['id'],
    referrer.id,
    referrer.entries + 1,
    now,
    DAYS_45,
    referral?.['id'],
    referral?.['id'],
  );
  yield query(
    `INSERT INTO "AuditRow" ("id", "userId", "at", "actor", "kind", "seconds", "causeId")
     VALUES ($1, $2, $3, 'stripe', 'credit', $4, $5), ($6, $7, $8, 'stripe', 'credit', $9, $10)`,
    randomUUID(),
    buyer.id,
    now,
    DAYS_45,
    referral?.['id'],
    randomUUID(),
    referrer.id,
    now,
    DAYS_45,
    referral?.['id'],
  );
  yield* grant(buyer, 2, nowSeconds, instant);
  yield* grant(referrer, 1, nowSeconds, instant);
  yield query('COMMIT');
  return 'ok';
}

interface LockedUser {
  id: unknown;
  entries: number;
  /** As the driver gives it. */
  creditUntil: string | Date | null;
}

function* lockUser(id: unknown): Work<LockedUser> {
  const [row] = yield query(`UPDATE "User" SET "tier" = "tier" WHERE "id" = $1 RETURNING *`, id);
  return {
    id,
    entries: Number(row?.['creditEntryCount']),
    creditUntil: row?.['creditUntil'] as LockedUser['creditUntil'],
  };
}

function* grant(user: LockedUser, entries: number, nowSeconds: number, instant: Instant): Work<void> {
  const until = user.creditUntil === null ? 0 : new Date(user.creditUntil).getTime() / 1000;
  yield query(
    `UPDATE "User" SET "creditUntil" = $1, "creditEntryCount" = $2, "creditEntryAt" = $3 WHERE "id" = $4`,
    instant(Math.max(nowSeconds, until) + DAYS_45),
    user.entries + entries,
    instant(nowSeconds),
    user.id,
  );
}

/** What the settings page is made of. */
export function* readSettings(tokenHash: string, nowSeconds: number, instant: Instant): Work<Row | null> {
  const [user] = yield query(
    `SELECT u.*, s."expiresAt" AS "sessionExpiresAt" FROM "Session" AS s JOIN "User" AS u ON u."id" = s."userId"
     WHERE s."tokenHash" = $1`,
    tokenHash,
  );
  if (!user) return null;
  const subscriptions = yield query(
    `SELECT s.* FROM "Subscription" AS s JOIN "Customer" AS c ON c."id" = s."customerId" WHERE c."userId" = $1`,
    user['id'],
  );
  const [counts] = yield query(
    `SELECT count(*) AS "invited",
       count(CASE WHEN "convertedAt" IS NOT NULL AND "reversedAt" IS NULL THEN 1 END) AS "converted",
       count(CASE WHEN "creditedAt" >= $1 AND "reversedAt" IS NULL THEN 1 END) AS "activeCredits"
     FROM "Referral" WHERE "referrerId" = $2`,
    instant(nowSeconds - DAYS_45),
    user['id'],
  );
  return { ...user, ...counts, subscriptions: subscriptions.length };
}
