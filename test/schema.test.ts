import { randomUUID } from 'node:crypto';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';

import { describe, expect, inject, test } from 'vitest';

import { openDatabase } from '../src/db/open.ts';
import { inTransaction } from '../src/db/transaction.ts';
import type { Tx } from '../src/db/transaction.ts';
import { otherConnection } from './support/other-connection.ts';
import type { OtherConnection } from './support/other-connection.ts';
import { differencesToSchema } from './support/schema-engine.ts';
import { newDatabase, signUp, START, startTestServer } from './support/server.ts';

const PRISMA = join(import.meta.dirname, '../prisma');

const onSqlite = inject('engine') === 'sqlite';

async function migrated(): Promise<OtherConnection> {
  return otherConnection({ databaseUrl: await newDatabase() });
}

/** The rows that a query returns, one line each, sorted as text. */
async function lines({ rows }: OtherConnection, query: string): Promise<string[]> {
  return (await rows(query)).map(({ line }) => String(line)).sort();
}

/** The names of all CHECK constraints. */
async function checkConstraints(database: OtherConnection): Promise<string[]> {
  if (!onSqlite) {
    return lines(
      database,
      `SELECT conname AS line FROM pg_constraint
       WHERE connamespace = 'public'::regnamespace AND contype = 'c'`,
    );
  }
  const tables = await lines(database, `SELECT sql AS line FROM sqlite_master WHERE type = 'table'`);
  return tables
    .flatMap((sql) => [...sql.matchAll(/CONSTRAINT "(\w+)" CHECK/g)].map(([, name = '']) => name))
    .sort();
}

describe('the database enforces its own rules', () => {
  test('the CHECK constraints, which schema.prisma cannot express, are still in the tables', async () => {
    expect(await checkConstraints(await migrated())).toEqual([
      'AuditRow_actor_check',
      'AuditRow_kind_check',
      'Checkout_plan_check',
      'CreditEntry_kind_check',
      'CreditEntry_referral_check',
      'CreditEntry_seconds_check',
      'CreditEntry_seq_check',
      'Event_error_check',
      'Event_reason_check',
      'Event_status_check',
      'Invoice_positive_is_paid_check',
      'OutboxItem_status_check',
      'Payment_refundedAt_check',
      'Referral_converted_is_credited_check',
      'Referral_not_oneself_check',
      'Referral_refused_check',
      'Referral_reversed_was_converted_check',
      'Subscription_counts_was_counted_check',
      'User_account_or_tombstone_check',
      'User_creditEntryAt_check',
      'User_creditEntryCount_check',
      'User_held_while_paid_check',
      'User_tier_check',
      'User_tombstone_holds_nothing_check',
    ]);
  });

  test('a fact may refer to a row that is inserted later in the same transaction', async () => {
    const { db } = await startTestServer();
    const commit = (write: (tx: Tx) => Promise<unknown>) => inTransaction(db, START, write);
    await db.customer.create({ data: { id: 'cus_1' } });
    const payment = { id: 'pi_1', invoiceId: 'in_1' };
    const invoice = { id: 'in_1', subscriptionId: 'sub_1' };
    await commit(async (tx) => {
      await tx.payment.create({ data: payment });
      await tx.invoice.create({ data: invoice });
      await tx.subscription.create({ data: { id: 'sub_1', customerId: 'cus_1' } });
    });
    expect(await db.payment.findMany()).toMatchObject([payment]);
    expect(await db.invoice.findMany()).toMatchObject([invoice]);
    // The row must exist by the commit.
    const orphans: ((tx: Tx) => Promise<unknown>)[] = [
      (tx) => tx.payment.create({ data: { id: 'pi_2', invoiceId: 'nowhere' } }),
      (tx) => tx.invoice.create({ data: { id: 'in_2', subscriptionId: 'nowhere' } }),
    ];
    for (const orphan of orphans) await expect(commit(orphan)).rejects.toThrow(/foreign ?key/i);
  });

  test('one instant is stored as one value, whoever writes it', async () => {
    const server = await startTestServer();
    const a = await signUp(server, 'a@example.com');
    await signUp(server, 'b@example.com', a.code);
    const { rows } = await otherConnection(server);
    const [row] = await rows(
      'SELECT u."createdAt" AS model, r."createdAt" AS raw FROM "User" u, "Referral" r',
    );
    expect(row?.['raw']).toBeTruthy();
    expect(row?.['raw']).toEqual(row?.['model']);
  });

  test('a second referral of one user, or a second conversion of one person, is refused', async () => {
    const server = await startTestServer();
    const [a, b, c] = [
      await signUp(server, 'a@example.com'),
      await signUp(server, 'b@example.com'),
      await signUp(server, 'c@example.com'),
    ];
    const referral = (referrerId: string, referredId: string, referredHash: string) =>
      server.db.referral.create({
        data: { id: randomUUID(), referrerId, referredId, referredHash, createdAt: START },
      });
    await referral(a.id, b.id, 'hash of b');
    await expect(referral(c.id, b.id, 'another hash')).rejects.toMatchObject({ code: 'P2002' });
    await expect(referral(a.id, c.id, 'hash of b')).rejects.toMatchObject({ code: 'P2002' });
    await expect(referral(a.id, a.id, 'hash of a')).rejects.toThrow('Referral_not_oneself_check');
  });

  test('one cause cannot grant a user twice, even if the code is wrong', async () => {
    const server = await startTestServer();
    const person = await signUp(server, 'a@example.com');
    const entry = (seq: number) =>
      server.db.creditEntry.create({
        data: { userId: person.id, seq, at: START, kind: 'grant', seconds: 1, causeId: 'the same' },
      });
    await entry(1);
    await expect(entry(2)).rejects.toMatchObject({ code: 'P2002' });
    await expect(entry(1)).rejects.toMatchObject({ code: 'P2002' });
  });

  test('credit cannot be held while the user is not paid', async () => {
    const server = await startTestServer();
    const person = await signUp(server, 'a@example.com');
    const write = (data: object) => server.db.user.update({ where: { id: person.id }, data });
    await expect(write({ creditHeldAt: START })).rejects.toThrow('User_held_while_paid_check');
    await expect(write({ tier: 'paid' })).rejects.toThrow('User_held_while_paid_check');
    await expect(write({ tier: 'premium' })).rejects.toThrow('User_tier_check');
  });
});

/** Each engine's own description of the columns, indexes and foreign keys. */
const ON_SQLITE = {
  columns: `
    SELECT t.name || '.' || c.name || ' '
      || replace(lower(c.type), 'datetime', 'timestamp(3) without time zone')
      || CASE c."notnull" WHEN 1 THEN ' not null' ELSE '' END
      || coalesce(' default ' || c.dflt_value, '')
      || CASE c.pk WHEN 0 THEN '' ELSE ' key ' || c.pk END AS line
    FROM sqlite_master t JOIN pragma_table_info(t.name) c
    WHERE t.type = 'table' AND t.name <> '_prisma_migrations'`,
  indexes: `
    SELECT i.name || CASE i."unique" WHEN 1 THEN ' unique' ELSE '' END || ': '
      || (SELECT group_concat(name, ', ') FROM (SELECT name FROM pragma_index_info(i.name) ORDER BY seqno)) AS line
    FROM sqlite_master t JOIN pragma_index_list(t.name) i
    WHERE t.type = 'table' AND t.name <> '_prisma_migrations' AND i.origin <> 'pk'`,
  foreignKeys: `
    SELECT t.name || '.' || k."from" || ' -> ' || k."table" || '.' || k."to"
      || ', delete: ' || lower(k.on_delete) || ', update: ' || lower(k.on_update) AS line
    FROM sqlite_master t JOIN pragma_foreign_key_list(t.name) k WHERE t.type = 'table'`,
};

const ACTION = `WHEN 'a' THEN 'no action' WHEN 'r' THEN 'restrict' WHEN 'c' THEN 'cascade' WHEN 'n' THEN 'set null' END`;

const ON_POSTGRESQL = {
  columns: `
    SELECT t.relname || '.' || c.attname || ' ' || format_type(c.atttypid, c.atttypmod)
      || CASE WHEN c.attnotnull THEN ' not null' ELSE '' END
      || coalesce(' default ' || pg_get_expr(d.adbin, d.adrelid), '')
      || coalesce(' key ' || array_position(k.conkey, c.attnum), '') AS line
    FROM pg_class t JOIN pg_attribute c ON c.attrelid = t.oid AND c.attnum > 0 AND NOT c.attisdropped
      LEFT JOIN pg_attrdef d ON d.adrelid = t.oid AND d.adnum = c.attnum
      LEFT JOIN pg_constraint k ON k.conrelid = t.oid AND k.contype = 'p'
    WHERE t.relnamespace = 'public'::regnamespace AND t.relkind = 'r' AND t.relname <> '_prisma_migrations'`,
  indexes: `
    SELECT n.relname || CASE WHEN i.indisunique THEN ' unique' ELSE '' END || ': '
      || (SELECT string_agg(pg_get_indexdef(n.oid, k, true), ', ' ORDER BY k)
          FROM generate_series(1, i.indnkeyatts) k) AS line
    FROM pg_index i JOIN pg_class n ON n.oid = i.indexrelid JOIN pg_class t ON t.oid = i.indrelid
    WHERE t.relnamespace = 'public'::regnamespace AND NOT i.indisprimary`,
  foreignKeys: `
    SELECT k.conrelid::regclass || '.' || c.attname || ' -> ' || k.confrelid::regclass || '.' || f.attname
      || ', delete: ' || CASE k.confdeltype ${ACTION} || ', update: ' || CASE k.confupdtype ${ACTION} AS line
    FROM pg_constraint k JOIN pg_attribute c ON c.attrelid = k.conrelid AND c.attnum = k.conkey[1]
      JOIN pg_attribute f ON f.attrelid = k.confrelid AND f.attnum = k.confkey[1]
    WHERE k.contype = 'f'`,
};

async function structure(database: OtherConnection, queries: typeof ON_SQLITE) {
  const [columns, indexes, foreignKeys] = [
    await lines(database, queries.columns),
    await lines(database, queries.indexes),
    await lines(database, queries.foreignKeys),
  ].map((list) => list.map((line) => line.replaceAll('"', '')));
  return { columns, indexes, foreignKeys };
}

describe('the schemas of both engines match', () => {
  test('both engines have the same migrations', async () => {
    const folders = async (folder: string) =>
      (await readdir(join(PRISMA, folder), { withFileTypes: true }))
        .filter((entry) => entry.isDirectory())
        .map(({ name }) => name)
        .sort();
    const names = await folders('migrations');
    expect(names.length).toBeGreaterThan(0);
    expect(await folders('postgresql/migrations')).toEqual(names);
  });

  // PostgreSQL's schema is derived from the same models, and its tables are compared with SQLite's.
  test.runIf(onSqlite)('the migrations produce what schema.prisma describes', async () => {
    expect(await differencesToSchema(await newDatabase(), PRISMA)).toBe('No difference detected.');
  });

  test.runIf(!onSqlite)(
    'the migrations produce the same tables, indexes and foreign keys on both engines',
    async () => {
      const databaseUrl = `file:${join(inject('scratch'), `${randomUUID()}.db`)}`;
      const { db } = await openDatabase(databaseUrl);
      await db.$disconnect();
      const sqlite = await structure(await otherConnection({ databaseUrl }), ON_SQLITE);
      expect(sqlite.columns).toContain('User.creditUntil timestamp(3) without time zone');
      expect(await structure(await migrated(), ON_POSTGRESQL)).toEqual(sqlite);
    },
  );

  test.runIf(!onSqlite)('text sorts by its bytes, as on SQLite, whatever the locale', async () => {
    const columns = `
      FROM pg_attribute c JOIN pg_class t ON t.oid = c.attrelid
      WHERE t.relnamespace = 'public'::regnamespace AND t.relkind = 'r' AND t.relname <> '_prisma_migrations'
        AND c.atttypid = 'text'::regtype`;
    const database = await migrated();
    expect(await lines(database, `SELECT t.relname || '.' || c.attname AS line ${columns}`)).toContain(
      'Event.id',
    );
    const others = `SELECT t.relname || '.' || c.attname AS line ${columns} AND c.attcollation <> '"C"'::regcollation`;
    expect(await lines(database, others)).toEqual([]);
  });
});
