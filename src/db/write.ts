import { COLUMNS, JSON_ROWS, jsonValue, toJson } from './columns.ts';
import type { ColumnType, TableName } from './columns.ts';
import { changed } from './rows.ts';
import type { Rows } from './rows.ts';
import { isUniqueViolation, LostRace } from './transaction.ts';
import type { Engine, Tx } from './transaction.ts';

/** How the rows of a table are written. Users and referrals are never made here. */
type Way = 'insert' | 'upsert' | 'update';

/** A column that others write as well is not written. */
const WRITTEN: Readonly<Partial<Record<TableName, readonly string[]>>> = {
  User: ['tier', 'creditUntil', 'creditHeldAt', 'creditEntryCount', 'creditEntryAt'],
  Referral: ['referredHash', 'convertedAt', 'creditedAt', 'reversedAt', 'refusedFor'],
};

interface Statement {
  sql: string;
  columns: readonly string[];
}

function statement(engine: Engine, table: TableName, way: Way): Statement {
  const types: Readonly<Record<string, ColumnType>> = COLUMNS[table];
  const written = WRITTEN[table] ?? Object.keys(types).filter((column) => column !== 'id');
  const columns = [...(way === 'insert' && !('id' in types) ? [] : ['id']), ...written];
  const value = (column: string): string =>
    jsonValue(engine, columns.indexOf(column), types[column] ?? 'text');
  const source = JSON_ROWS[engine];
  if (way === 'update') {
    const assignments = written.map((column) => `"${column}" = ${value(column)}`);
    return {
      sql: `UPDATE "${table}" SET ${assignments.join(', ')} FROM ${source} WHERE "${table}"."id" = v.value ->> 0`,
      columns,
    };
  }
  const names = columns.map((column) => `"${column}"`).join(', ');
  // "WHERE true": SQLite's parser would take ON CONFLICT for a join's.
  const insert = `INSERT INTO "${table}" (${names}) SELECT ${columns.map(value).join(', ')} FROM ${source} WHERE true`;
  if (way === 'insert') return { sql: insert, columns };
  const assignments = written.map((column) => `"${column}" = excluded."${column}"`);
  return { sql: `${insert} ON CONFLICT ("id") DO UPDATE SET ${assignments.join(', ')}`, columns };
}

/** In the order in which foreign keys want them. */
const WAYS = {
  Customer: 'upsert',
  Subscription: 'upsert',
  Invoice: 'upsert',
  Payment: 'upsert',
  Dispute: 'upsert',
  User: 'update',
  Referral: 'update',
  CreditEntry: 'insert',
  AuditRow: 'insert',
} as const satisfies Partial<Record<TableName, Way>>;

type WrittenTable = keyof typeof WAYS;

function statementsOf(engine: Engine): Record<WrittenTable, Statement> {
  const all = Object.entries(WAYS).map(([table, way]) => [
    table,
    statement(engine, table as WrittenTable, way),
  ]);
  return Object.fromEntries(all) as Record<WrittenTable, Statement>;
}

const STATEMENTS: Readonly<Record<Engine, Record<WrittenTable, Statement>>> = {
  sqlite: statementsOf('sqlite'),
  postgresql: statementsOf('postgresql'),
};

/**
 * Writes what has changed: one statement a table, however many rows.
 *
 * @param tx the open transaction, which holds the locks of all that was loaded
 * @param before the rows as they were loaded
 * @param after the rows as they are to be
 * @throws LostRace when another transaction has taken what is unique; Error when a row that was loaded is not there any more
 */
export async function write(tx: Tx, before: Rows, after: Rows): Promise<void> {
  await put(tx, 'Customer', changed(before.customers, after.customers));
  await put(tx, 'Subscription', changed(before.subscriptions, after.subscriptions));
  await put(tx, 'Invoice', changed(before.invoices, after.invoices));
  await put(tx, 'Payment', changed(before.payments, after.payments));
  await put(tx, 'Dispute', changed(before.disputes, after.disputes));
  await put(tx, 'User', changed(before.users, after.users));
  await put(tx, 'Referral', changed(before.referrals, after.referrals));
  await put(tx, 'CreditEntry', after.entries);
  await put(tx, 'AuditRow', after.audit);
}

async function put(tx: Tx, table: WrittenTable, rows: readonly object[]): Promise<void> {
  if (rows.length === 0) return;
  const { sql, columns } = STATEMENTS[tx.engine][table];
  const values = rows.map((row) => toJson(row, columns, tx.engine));
  const count = await tx.$executeRawUnsafe(sql, JSON.stringify(values)).catch((error: unknown) => {
    // One trial and one conversion an address: two that meet on different servers are decided once more.
    throw isUniqueViolation(error) ? new LostRace(error) : error;
  });
  if (count !== rows.length)
    throw new Error(`Of ${rows.length} rows of the table ${table}, ${count} were written.`);
}
