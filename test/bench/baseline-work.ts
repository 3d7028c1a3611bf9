import { randomUUID } from 'node:crypto';

import { DAY_SECONDS } from '../../src/instants.ts';
import type { SettingsValues } from './shared.ts';

// Tandem's work for the measured events and page, as bare SQL. For an event: plain statements, one after the other,
// that leave the same rows. For the page: the same statements as Tandem's. No framework, no ORM, and no query that
// these events do not need. The SQLite and PostgreSQL versions both run it, each through its own driver.

/** `$1`, `$2` … once each and in order, so that they can be replaced with SQLite's `?`. */
export interface Query {
  sql: string;
  args: unknown[];
}

type Row = Record<string, unknown>;

/** Yields statements and receives their rows. */
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
      trial_end: number | null;
      cancel_at: number | null;
      cancel_at_period_end: boolean;
      ended_at: number | null;
      items: { data: { price: { id: string }; current_period_end: number }[] };
    };
  };
}

/** Converts epoch seconds to the instant that the database expects. */
export type Instant = (seconds: number) => unknown;

const DAYS_45 = 45 * DAY_SECONDS;
const DATE = new Intl.DateTimeFormat('en-GB', {
  dateStyle: 'long',
  timeZone: 'UTC',
});

const query = (sql: string, ...args: unknown[]): Query => ({ sql, args });

/** `customer.subscription.created` and `updated`: a conversion, a renewal, or a duplicate. */
export function* handleEvent(
  event: SubscriptionEvent,
  payload: string,
  nowSeconds: number,
  instant: Instant,
): Work<'ok' | 'duplicate'> {
  const { object } = event.data;
  const now = instant(nowSeconds);
  const at = instant(event.created);
  const known = yield query(`SELECT 1 FROM "Event" WHERE "id" = $1 AND "status" <> 'failed'`, event.id);
  if (known.length > 0) return 'duplicate';

  yield query('BEGIN');
  yield query(
    `INSERT INTO "Event" ("id", "type", "created", "receivedAt", "status", "reason", "payload", "customerId",
       "appliedAt")
     VALUES ($1, $2, $3, $4, 'applied', NULL, $5, $6, $7)
     ON CONFLICT ("id") DO UPDATE SET "status" = excluded."status", "reason" = excluded."reason", "error" = NULL,
       "payload" = excluded."payload", "customerId" = excluded."customerId", "appliedAt" = excluded."appliedAt"
     WHERE "Event"."status" = 'failed'`,
    event.id,
    event.type,
    at,
    now,
    payload,
    object.customer,
    now,
  );
  const [owner] = yield query(
    `INSERT INTO "Customer" ("id") VALUES ($1)
     ON CONFLICT ("id") DO UPDATE SET "deletedAt" = "Customer"."deletedAt" RETURNING *`,
    object.customer,
  );
  const [before] = yield query(
    `INSERT INTO "Subscription" ("id", "customerId") VALUES ($1, $2)
     ON CONFLICT ("id") DO UPDATE SET "checkoutUnpaid" = "Subscription"."checkoutUnpaid" RETURNING *`,
    object.id,
    object.customer,
  );
  const isNew = before?.['status'] === null;
  const state = stateOf(event, instant);
  if (!isNew) {
    yield query(
      `UPDATE "Subscription" SET "status" = $1, "createdAt" = $2, "priceId" = $3, "currentPeriodEnd" = $4,
         "trialEnd" = $5, "cancelAt" = $6, "cancelAtPeriodEnd" = $7, "endedAt" = $8, "snapshotAt" = $9,
         "snapshotEventId" = $10, "needsReconcile" = $11
       WHERE "id" = $12`,
      ...state,
      object.id,
    );
    yield query('COMMIT');
    return 'ok';
  }
  yield query('SELECT * FROM "Invoice" WHERE "subscriptionId" = $1', object.id);
  yield query(
    `UPDATE "Subscription" SET "status" = $1, "createdAt" = $2, "priceId" = $3, "currentPeriodEnd" = $4,
       "trialEnd" = $5, "cancelAt" = $6, "cancelAtPeriodEnd" = $7, "endedAt" = $8, "snapshotAt" = $9,
       "snapshotEventId" = $10, "needsReconcile" = $11, "statusAt" = $12, "activeAt" = $13, "provenAt" = $14,
       "firstPaidAt" = $15, "givesSince" = $16
     WHERE "id" = $17`,
    ...state,
    at,
    at,
    now,
    null,
    at,
    object.id,
  );
  const buyer = yield* lockUser('$1', owner?.['userId']);
  yield query(
    `SELECT s.* FROM "Subscription" AS s JOIN "Customer" AS c ON c."id" = s."customerId" WHERE c."userId" = $1`,
    buyer.id,
  );
  yield query(
    `INSERT INTO "CreditEntry" ("userId", "seq", "at", "kind", "seconds", "referralId", "causeId")
     VALUES ($1, $2, $3, 'hold', 0, NULL, $4)`,
    buyer.id,
    buyer.entries + 1,
    at,
    event.id,
  );
  yield query(
    `INSERT INTO "AuditRow" ("id", "userId", "at", "actor", "kind", "fromTier", "toTier", "seconds", "causeId", "note")
     VALUES ($1, $2, $3, 'stripe', 'tier', 'free', 'paid', NULL, $4, NULL)`,
    randomUUID(),
    buyer.id,
    now,
    event.id,
  );
  yield query(
    `UPDATE "User" SET "tier" = $1, "creditUntil" = $2, "creditHeldAt" = $3, "creditEntryCount" = $4,
       "creditEntryAt" = $5
     WHERE "id" = $6`,
    'paid',
    null,
    at,
    buyer.entries + 1,
    at,
    buyer.id,
  );
  const referrer = yield* lockUser(
    `(SELECT "referrerId" FROM "Referral" WHERE "referredId" = $1 AND "convertedAt" IS NULL)`,
    buyer.id,
  );
  const [referral] = yield query(
    `UPDATE "Referral" SET "convertedAt" = $1, "creditedAt" = $2, "referredHash" = $3
     WHERE "referredId" = $4 AND "convertedAt" IS NULL RETURNING *`,
    now,
    now,
    buyer.emailHash,
    buyer.id,
  );
  const referralId = referral?.['id'];
  yield query(
    `INSERT INTO "CreditEntry" ("userId", "seq", "at", "kind", "seconds", "referralId", "causeId")
     VALUES ($1, $2, $3, 'grant', $4, $5, $6), ($7, $8, $9, 'grant', $10, $11, $12)`,
    ...[buyer.id, buyer.entries + 2, now, DAYS_45, referralId, referralId],
    ...[referrer.id, referrer.entries + 1, now, DAYS_45, referralId, referralId],
  );
  yield query(
    `INSERT INTO "AuditRow" ("id", "userId", "at", "actor", "kind", "fromTier", "toTier", "seconds", "causeId", "note")
     VALUES ($1, $2, $3, 'stripe', 'credit', NULL, NULL, $4, $5, NULL),
       ($6, $7, $8, 'stripe', 'credit', NULL, NULL, $9, $10, NULL)`,
    ...[randomUUID(), buyer.id, now, DAYS_45, referralId],
    ...[randomUUID(), referrer.id, now, DAYS_45, referralId],
  );
  yield* grant(buyer, now, buyer.entries + 2, nowSeconds, instant);
  yield* grant(referrer, null, referrer.entries + 1, nowSeconds, instant);
  yield query('COMMIT');
  return 'ok';
}

/** What a snapshot says about its subscription, in the order of the columns above. */
function stateOf({ id, created, data: { object } }: SubscriptionEvent, instant: Instant): unknown[] {
  const [item] = object.items.data;
  const orNull = (seconds: number | null): unknown => (seconds === null ? null : instant(seconds));
  return [
    object.status,
    instant(object.created),
    item?.price.id,
    orNull(item?.current_period_end ?? null),
    orNull(object.trial_end),
    orNull(object.cancel_at),
    Number(object.cancel_at_period_end),
    orNull(object.ended_at),
    instant(created),
    id,
    0,
  ];
}

interface LockedUser {
  id: unknown;
  entries: number;
  creditUntil: unknown;
  emailHash: unknown;
}

/** @param which the id as SQL, with one parameter */
function* lockUser(which: string, parameter: unknown): Work<LockedUser> {
  const [row] = yield query(`UPDATE "User" SET "tier" = "tier" WHERE "id" = ${which} RETURNING *`, parameter);
  return {
    id: row?.['id'],
    entries: Number(row?.['creditEntryCount']),
    creditUntil: row?.['creditUntil'],
    emailHash: row?.['emailHash'],
  };
}

function* grant(
  user: LockedUser,
  heldAt: unknown,
  entries: number,
  nowSeconds: number,
  instant: Instant,
): Work<void> {
  yield query(
    `UPDATE "User" SET "creditUntil" = $1, "creditHeldAt" = $2, "creditEntryCount" = $3, "creditEntryAt" = $4
     WHERE "id" = $5`,
    instant(Math.max(nowSeconds, secondsOf(user.creditUntil)) + DAYS_45),
    heldAt,
    entries,
    instant(nowSeconds),
    user.id,
  );
}

/** Epoch seconds of the driver's instant (text or a Date); 0 for none. */
function secondsOf(instant: unknown): number {
  return instant === null ? 0 : new Date(instant as string | Date).getTime() / 1000;
}

/** The values in a paying user's settings page; null when there is no such session. */
export function* readSettings(
  tokenHash: string,
  nowSeconds: number,
  instant: Instant,
): Work<SettingsValues | null> {
  const [user] = yield query(
    `SELECT u.*, s."expiresAt" AS "sessionExpiresAt" FROM "Session" AS s JOIN "User" AS u ON u."id" = s."userId"
     WHERE s."tokenHash" = $1`,
    tokenHash,
  );
  if (!user || secondsOf(user['sessionExpiresAt']) <= nowSeconds) return null;
  const [subscription] = yield query(
    `SELECT s.* FROM "Subscription" AS s JOIN "Customer" AS c ON c."id" = s."customerId" WHERE c."userId" = $1`,
    user['id'],
  );
  const [counts] = yield query(
    `SELECT count(*) AS "invited", count("creditedAt") AS "credited",
       count(CASE WHEN "creditedAt" IS NOT NULL AND "reversedAt" IS NULL THEN 1 END) AS "converted",
       count(CASE WHEN "creditedAt" >= $1 AND "reversedAt" IS NULL THEN 1 END) AS "activeCredits",
       min(CASE WHEN "creditedAt" >= $2 AND "reversedAt" IS NULL THEN "creditedAt" END) AS "firstActive"
     FROM "Referral" WHERE "referrerId" = $3`,
    instant(nowSeconds - DAYS_45),
    instant(nowSeconds - DAYS_45),
    user['id'],
  );
  // The texts made from these rows do not change during the measurement: the page's text contains them.
  yield query(
    `SELECT u."email", r."createdAt" AS "joinedAt", r."convertedAt", r."reversedAt"
     FROM "Referral" AS r JOIN "User" AS u ON u."id" = r."referredId"
     WHERE r."referrerId" = $1 ORDER BY r."createdAt" DESC, r."id" LIMIT 50`,
    user['id'],
  );
  yield query(
    `SELECT e.*, r."referrerId" FROM "CreditEntry" AS e LEFT JOIN "Referral" AS r ON r."id" = e."referralId"
     WHERE e."userId" = $1 AND e."seq" > $2 ORDER BY e."seq"`,
    user['id'],
    0,
  );
  const periodEnd = new Date(secondsOf(subscription?.['currentPeriodEnd']) * 1000);
  const creditSeconds = secondsOf(user['creditUntil']) - secondsOf(user['creditHeldAt']);
  return {
    email: String(user['email']),
    code: String(user['code']),
    periodEnd: periodEnd.toISOString(),
    periodEndText: DATE.format(periodEnd),
    creditDays: String(Math.ceil(creditSeconds / DAY_SECONDS)),
    invited: String(counts?.['invited']),
    converted: String(counts?.['converted']),
    activeCredits: String(counts?.['activeCredits']),
  };
}
