import { COLUMNS, fromJson } from './columns.ts';
import type { Columns, TableName } from './columns.ts';
import { Prisma } from './generated/client.ts';
import { noRows } from './rows.ts';
import type { ReferralRow, Rows, UserRow } from './rows.ts';
import { LostRace } from './transaction.ts';
import type { Engine, Tx } from './transaction.ts';

/** The ids named by events or a command. Everything that bears on them is loaded with them. */
export interface Wanted {
  payments?: readonly string[];
  /**
   * Payments with a refund or a dispute in these events: all first and positive invoices of their subscriptions are
   * loaded.
   */
  moneyBack?: readonly string[];
  disputes?: readonly string[];
  invoices?: readonly string[];
  subscriptions?: readonly string[];
  customers?: readonly string[];
  users?: readonly string[];
}

type Kind = keyof Wanted;

const KINDS: readonly Kind[] = [
  'payments',
  'moneyBack',
  'disputes',
  'invoices',
  'subscriptions',
  'customers',
  'users',
];

/** Merges the lists: every id once, sorted. */
export function union(wanted: readonly Wanted[]): Required<Wanted> {
  const all = KINDS.map((kind) => [kind, [...new Set(wanted.flatMap((one) => one[kind] ?? []))].sort()]);
  return Object.fromEntries(all) as Required<Wanted>;
}

/** How the engines differ in JSON. */
interface Dialect {
  /** A list in the parameter's document, as rows with one column `id`. */
  ids: (kind: Kind) => string;
  /** A condition: the column's value is one of the ids in a common table expression. */
  among: (column: string, cte: string) => string;
  array: string;
  group: string;
  text: (expression: string) => string;
}

const DIALECTS: Readonly<Record<Engine, Dialect>> = {
  sqlite: {
    ids: (kind) => `SELECT value AS id FROM json_each((SELECT doc FROM input), '$.${kind}')`,
    among: (column, cte) => `${column} IN (SELECT id FROM ${cte})`,
    array: 'json_array',
    group: 'json_group_array',
    text: (expression) => expression,
  },
  postgresql: {
    ids: (kind) => `SELECT jsonb_array_elements_text((SELECT doc FROM input) -> '${kind}') AS id`,
    // With an array, the planner expects few rows and uses the index; with a subselect it does not.
    among: (column, cte) => `${column} = ANY(ARRAY(SELECT id FROM ${cte}))`,
    array: 'jsonb_build_array',
    group: 'jsonb_agg',
    text: (expression) => `(${expression})::text`,
  },
};

/** A table's rows as a JSON array of arrays. */
function arrayOf({ array, group }: Dialect, table: TableName, where: string, more: string[] = []): string {
  const columns = [...Object.keys(COLUMNS[table]).map((column) => `t."${column}"`), ...more];
  return `(SELECT ${group}(${array}(${columns.join(', ')})) FROM "${table}" AS t WHERE ${where})`;
}

/** The addresses of a referred user: the current one, and former ones that count (design: rule 11). Tombstones share ''. */
const ADDRESSES = `(
  SELECT u."emailHash" FROM "User" AS u WHERE u."id" = t."referredId" AND u."emailHash" <> ''
  UNION ALL SELECT f."emailHash" FROM "FormerAddress" AS f WHERE f."userId" = t."referredId")`;
/** The former addresses of a user, joined by commas; NULL when there are none. */
const FORMER_HASHES = `(SELECT string_agg(f."emailHash", ',') FROM "FormerAddress" AS f WHERE f."userId" = t."id")`;
/** The address checks below are made only for open referrals. */
const IS_OPEN = `t."convertedAt" IS NULL AND t."refusedFor" IS NULL`;
/** The referrer has, or had, one of these addresses. */
const OWN_ADDRESS = `(${IS_OPEN} AND (
    EXISTS (SELECT 1 FROM "User" AS r WHERE r."id" = t."referrerId" AND r."emailHash" IN ${ADDRESSES})
    OR EXISTS (SELECT 1 FROM "FormerAddress" AS f WHERE f."userId" = t."referrerId" AND f."emailHash" IN ${ADDRESSES})
  ))`;
/**
 * One of these addresses converted a referral, or is a former address of an account that did, or is the present address of
 * one, if that is proven or the account has been paid for since it took that address.
 */
const ADDRESS_CONVERTED = `(${IS_OPEN} AND (
    EXISTS (SELECT 1 FROM "Referral" AS c WHERE c."convertedAt" IS NOT NULL AND c."referredHash" IN ${ADDRESSES})
    OR EXISTS (SELECT 1 FROM "FormerAddress" AS f JOIN "Referral" AS c ON c."referredId" = f."userId"
      WHERE c."convertedAt" IS NOT NULL AND f."emailHash" IN ${ADDRESSES})
    OR EXISTS (SELECT 1 FROM "User" AS u JOIN "Referral" AS c ON c."referredId" = u."id"
      WHERE c."convertedAt" IS NOT NULL AND u."emailHash" IN ${ADDRESSES} AND (
        u."emailProvenAt" IS NOT NULL
        OR EXISTS (SELECT 1 FROM "Customer" AS p JOIN "Subscription" AS s ON s."customerId" = p."id"
          WHERE p."userId" = u."id" AND (s."provenAt" > u."emailSetAt" OR EXISTS (SELECT 1 FROM "Invoice" AS i
            WHERE i."subscriptionId" = s."id" AND i."positive" AND i."paidAt" > u."emailSetAt")))))
  ))`;

/** Whether a referral `t` would be refused now; false when it is no longer open (design: rule 11). */
export const WOULD_BE_REFUSED = Prisma.raw(`(${OWN_ADDRESS} OR ${ADDRESS_CONVERTED})`);

/**
 * A subscription `s` that is over and was never active, in trial or paid. It no longer affects anything, and anybody can
 * make thousands by abandoning checkouts while the bank's approval is pending.
 */
export const NEVER_BEGAN = Prisma.raw(`(
  s."status" IS NOT NULL AND s."status" IN ('canceled', 'incomplete_expired') AND s."activeAt" IS NULL
  AND s."trialEnd" IS NULL AND s."provenAt" IS NULL AND s."firstPaidAt" IS NULL AND NOT s."moneyBack"
  AND s."gaveOtherwiseAt" IS NULL)`);

/**
 * Walks from payments up to invoices, subscriptions, customers and users, and down again to everything they own, except
 * subscriptions that never began. A subscription is in `unsure` while no positive invoice of it is known, or if some of
 * its money may have gone back. All its first and positive invoices are then loaded.
 */
function loadStatement(engine: Engine): string {
  const dialect = DIALECTS[engine];
  const { ids, among, array } = dialect;
  const parameter = engine === 'sqlite' ? '?' : '$1::jsonb';
  return `
    WITH input AS MATERIALIZED (SELECT ${parameter} AS doc),
    payments_0 AS MATERIALIZED (${ids('payments')}),
    invoices_0 AS MATERIALIZED (${ids('invoices')} UNION
      SELECT "invoiceId" FROM "Payment" WHERE ${among('"id"', 'payments_0')} AND "invoiceId" IS NOT NULL),
    subscriptions_0 AS MATERIALIZED (${ids('subscriptions')} UNION
      SELECT "subscriptionId" FROM "Invoice" WHERE ${among('"id"', 'invoices_0')} AND "subscriptionId" IS NOT NULL),
    customers_0 AS MATERIALIZED (${ids('customers')} UNION
      SELECT "customerId" FROM "Subscription" WHERE ${among('"id"', 'subscriptions_0')}),
    users_0 AS MATERIALIZED (${ids('users')} UNION
      SELECT "userId" FROM "Customer" WHERE ${among('"id"', 'customers_0')} AND "userId" IS NOT NULL),
    customers_1 AS MATERIALIZED (SELECT id FROM customers_0 UNION
      SELECT "id" FROM "Customer" WHERE ${among('"userId"', 'users_0')}),
    subscriptions_1 AS MATERIALIZED (SELECT id FROM subscriptions_0 UNION
      SELECT s."id" FROM "Subscription" AS s WHERE ${among('s."customerId"', 'customers_1')} AND NOT ${NEVER_BEGAN.sql}),
    money_back AS MATERIALIZED (${ids('moneyBack')} UNION
      SELECT p."id" FROM "Payment" AS p
      WHERE (${among('p."id"', 'payments_0')} OR ${among('p."invoiceId"', 'invoices_0')})
        AND (p."refundedAt" IS NOT NULL OR EXISTS (SELECT 1 FROM "Dispute" AS d WHERE d."paymentId" = p."id"))),
    unsure AS MATERIALIZED (
      SELECT "id" FROM "Subscription"
      WHERE ${among('"id"', 'subscriptions_1')} AND ("firstPaidAt" IS NULL OR "moneyBack")
      UNION SELECT id FROM subscriptions_0 WHERE EXISTS (SELECT 1 FROM money_back)),
    invoices_1 AS MATERIALIZED (SELECT id FROM invoices_0 UNION
      SELECT "id" FROM "Invoice" WHERE ${among('"subscriptionId"', 'unsure')} AND ("first" OR "positive")),
    payments_1 AS MATERIALIZED (SELECT id FROM payments_0 UNION
      SELECT "id" FROM "Payment" WHERE ${among('"invoiceId"', 'invoices_1')}),
    disputes_1 AS MATERIALIZED (${ids('disputes')} UNION
      SELECT "id" FROM "Dispute" WHERE ${among('"paymentId"', 'payments_1')}),
    users_1 AS MATERIALIZED (SELECT id FROM users_0 UNION
      SELECT "referrerId" FROM "Referral" WHERE ${among('"referredId"', 'users_0')} AND "referrerId" IS NOT NULL)
    SELECT ${dialect.text(`${array}(
      ${arrayOf(dialect, 'User', among('t."id"', 'users_1'), [FORMER_HASHES])},
      ${arrayOf(dialect, 'Customer', among('t."id"', 'customers_1'))},
      ${arrayOf(dialect, 'Subscription', among('t."id"', 'subscriptions_1'))},
      ${arrayOf(dialect, 'Invoice', among('t."id"', 'invoices_1'))},
      ${arrayOf(dialect, 'Payment', among('t."id"', 'payments_1'))},
      ${arrayOf(dialect, 'Dispute', among('t."id"', 'disputes_1'))},
      ${arrayOf(dialect, 'Referral', among('t."referredId"', 'users_0'), [OWN_ADDRESS, ADDRESS_CONVERTED])}
    )`)} AS "rows"`;
}

const LOAD: Readonly<Record<Engine, string>> = {
  sqlite: loadStatement('sqlite'),
  postgresql: loadStatement('postgresql'),
};

/**
 * Locks the named rows and loads everything that bears on them: the users of the customers, all their customers,
 * referrals and referrers, their subscriptions except those that never began, and those invoices, payments and disputes
 * that can matter (design: rule 5).
 */
export async function load(tx: Tx, wanted: Required<Wanted>): Promise<Rows> {
  const locked = tx.engine === 'postgresql' ? await lock(tx, wanted) : null;
  const [answer] = await tx.$queryRawUnsafe<[{ rows: string }]>(LOAD[tx.engine], JSON.stringify(wanted));
  const tables = JSON.parse(answer.rows) as (unknown[][] | null)[];
  const rows = noRows();
  const [users, customers, subscriptions, invoices, payments, disputes, referrals] = tables;
  for (const values of users ?? []) {
    const { formerHashes, ...user } = fromJson(values, { ...COLUMNS.User, formerHashes: 'text' });
    const former = (formerHashes as string | null)?.split(',') ?? [];
    rows.users.set(user['id'] as string, { ...user, formerHashes: former } as unknown as UserRow);
  }
  fill(rows.customers, customers, COLUMNS.Customer);
  fill(rows.subscriptions, subscriptions, COLUMNS.Subscription);
  fill(rows.invoices, invoices, COLUMNS.Invoice);
  fill(rows.payments, payments, COLUMNS.Payment);
  fill(rows.disputes, disputes, COLUMNS.Dispute);
  const withAddresses = { ...COLUMNS.Referral, ownAddress: 'bool', addressConverted: 'bool' } as const;
  for (const values of referrals ?? []) {
    const referral = fromJson(values, withAddresses) as unknown as ReferralRow;
    rows.referrals.set(referral.referredId, referral);
  }
  if (locked) checkLocks(rows, locked);
  return rows;
}

/** What was to be locked can change while we wait for the locks. */
function checkLocks({ users, referrals }: Rows, locked: Locked): void {
  // An open referral can be replaced by another one (`startAfresh`).
  if ([...users.keys()].some((id) => !locked.users.has(id)))
    throw new LostRace(new Error('A referral got another referrer.'));
  for (const { referredId, convertedAt, refusedFor } of referrals.values()) {
    const buyer = users.get(referredId);
    if (!buyer || buyer.deletedAt !== null || convertedAt !== null || refusedFor !== null) continue;
    if ([buyer.emailHash, ...buyer.formerHashes].some((hash) => !locked.addresses.has(hash)))
      throw new LostRace(new Error('An invited buyer got another address.'));
  }
}

function fill<Row extends { id: string }>(
  table: Map<string, Row>,
  rows: unknown[][] | null | undefined,
  columns: Columns,
): void {
  for (const values of rows ?? []) {
    const row = fromJson(values, columns) as unknown as Row;
    table.set(row.id, row);
  }
}

/** The ids of the locked users, and the hashes of the locked addresses. */
interface Locked {
  users: ReadonlySet<string>;
  addresses: ReadonlySet<string>;
}

/**
 * Inserts or locks payments, invoices and customers, then takes advisory locks on the addresses of invited buyers, and
 * row locks on buyers and referrers. Each kind is sorted and takes one statement (addresses and users share one), so
 * that concurrent transactions cannot deadlock.
 */
async function lock(
  tx: Tx,
  { payments, invoices, subscriptions, customers, users }: Required<Wanted>,
): Promise<Locked> {
  const customersNamed = Prisma.sql`
    SELECT unnest(${customers}::text[]) AS id UNION
    SELECT "customerId" FROM "Subscription" WHERE "id" = ANY(${subscriptions}::text[]) UNION
    SELECT s."customerId" FROM "Invoice" AS i JOIN "Subscription" AS s ON s."id" = i."subscriptionId"
      WHERE i."id" = ANY(${invoices}::text[]) UNION
    SELECT s."customerId" FROM "Payment" AS p JOIN "Invoice" AS i ON i."id" = p."invoiceId"
      JOIN "Subscription" AS s ON s."id" = i."subscriptionId" WHERE p."id" = ANY(${payments}::text[])`;
  if (payments.length > 0) {
    await tx.$executeRaw`
      INSERT INTO "Payment" ("id") SELECT id FROM unnest(${payments}::text[]) AS id ORDER BY id
      ON CONFLICT ("id") DO UPDATE SET "refundedAt" = "Payment"."refundedAt"`;
  }
  if (payments.length + invoices.length > 0) {
    await tx.$executeRaw`
      INSERT INTO "Invoice" ("id") SELECT id FROM (
        SELECT unnest(${invoices}::text[]) AS id UNION
        SELECT "invoiceId" FROM "Payment" WHERE "id" = ANY(${payments}::text[]) AND "invoiceId" IS NOT NULL
      ) AS ids ORDER BY id
      ON CONFLICT ("id") DO UPDATE SET "first" = "Invoice"."first"`;
  }
  if (payments.length + invoices.length + subscriptions.length + customers.length > 0) {
    await tx.$executeRaw`
      INSERT INTO "Customer" ("id") SELECT id FROM (${customersNamed}) AS ids ORDER BY id
      ON CONFLICT ("id") DO UPDATE SET "deletedAt" = "Customer"."deletedAt"`;
  }
  // A customer's user changes only under the customer's lock, which is held by now. `load` checks the referrers and the
  // addresses again. Locking the addresses of invited buyers makes conversions of one person take turns; locking every
  // account of a mailbox could mean hundreds of rows. The addresses share 1,024 locks: PostgreSQL's lock table holds
  // only a few thousand locks for all connections together, and one person can have had more addresses than that. These
  // locks have two numbers, so none of them is a lock of `reserveAddress` or `lockMailboxes`, which have one. `none` is
  // always false: selecting from `locks` makes PostgreSQL lock the addresses before the rows.
  const locked = await tx.$queryRaw<{ id: string; hashes: string | null }[]>`
    WITH buyers AS MATERIALIZED (
      SELECT unnest(${users}::text[]) AS id UNION
      SELECT "userId" FROM "Customer" WHERE "id" = ANY(ARRAY(${customersNamed})) AND "userId" IS NOT NULL
    ), referrals AS MATERIALIZED (
      SELECT "referrerId", "referredId", "convertedAt" IS NULL AND "refusedFor" IS NULL AS open
      FROM "Referral" WHERE "referredId" = ANY(ARRAY(SELECT id FROM buyers))
    ), addresses AS MATERIALIZED (
      SELECT u."emailHash" FROM referrals AS r JOIN "User" AS u ON u."id" = r."referredId" WHERE r.open AND u."deletedAt" IS NULL UNION
      SELECT f."emailHash" FROM referrals AS r JOIN "FormerAddress" AS f ON f."userId" = r."referredId" WHERE r.open
    ), locks AS MATERIALIZED (
      SELECT pg_advisory_xact_lock(1, bucket) IS NULL AS none
      FROM (SELECT DISTINCT hashtext("emailHash") & 1023 AS bucket FROM addresses ORDER BY bucket) AS sorted
    )
    SELECT "id", CASE WHEN "id" = (SELECT min("referredId") FROM referrals WHERE open)
      THEN (SELECT string_agg("emailHash", ',') FROM addresses) END AS "hashes" FROM "User"
    WHERE "id" = ANY(ARRAY(
      SELECT id FROM buyers UNION
      SELECT "referrerId" FROM referrals WHERE "referrerId" IS NOT NULL UNION
      SELECT '' FROM locks WHERE none
    )) ORDER BY "id" FOR NO KEY UPDATE`;
  return {
    users: new Set(locked.map(({ id }) => id)),
    addresses: new Set(locked.flatMap(({ hashes }) => hashes?.split(',') ?? [])),
  };
}

/**
 * Deletes rows that were inserted only to be locked and are still empty. SQLite has none.
 *
 * @param wanted the ids named by events that left nothing behind
 */
export async function dropEmptyRows(
  tx: Tx,
  { payments, invoices, customers }: Required<Wanted>,
): Promise<void> {
  if (tx.engine === 'sqlite' || payments.length + invoices.length + customers.length === 0) return;
  await tx.$executeRaw`
    WITH empty_payments AS (
      DELETE FROM "Payment" AS p WHERE "id" = ANY(${payments}::text[]) AND "invoiceId" IS NULL
        AND "refundedAt" IS NULL AND "refundFailedAt" IS NULL
        AND NOT EXISTS (SELECT 1 FROM "Dispute" WHERE "paymentId" = p."id")
    ), empty_invoices AS (
      DELETE FROM "Invoice" AS i WHERE "id" = ANY(${invoices}::text[]) AND "subscriptionId" IS NULL
        AND "paidAt" IS NULL AND "failedAt" IS NULL
        AND NOT EXISTS (SELECT 1 FROM "Payment" WHERE "invoiceId" = i."id")
    )
    DELETE FROM "Customer" AS c WHERE "id" = ANY(${customers}::text[]) AND "userId" IS NULL
      AND "deletedAt" IS NULL AND NOT EXISTS (SELECT 1 FROM "Subscription" WHERE "customerId" = c."id")`;
}
