import { outboxQueued } from '../metrics.ts';
import { COLUMNS, JSON_ROWS, jsonValue, toJson } from './columns.ts';
import type { ColumnType, TableName } from './columns.ts';
import type { OutboxItem } from './generated/client.ts';
import { tellQueued } from './queued.ts';
import type { Rows } from './rows.ts';
import { isUniqueViolation, LostRace } from './transaction.ts';
import type { Engine, Tx } from './transaction.ts';

/** These rows are created elsewhere, and other code writes their other columns. Only these columns are written here. */
const WRITTEN: Readonly<Partial<Record<TableName, readonly string[]>>> = {
  User: ['tier', 'creditUntil', 'creditHeldAt', 'creditEntryCount', 'creditEntryAt'],
  Referral: ['referredHash', 'convertedAt', 'creditedAt', 'reversedAt', 'refusedFor'],
};

/** `upsert`: a row that was inserted only to be locked is filled in. `once`: a row whose id exists already is skipped. */
type Way = 'insert' | 'upsert' | 'once' | 'update';

/** Cached by engine, table and columns, so that the database keeps each text prepared. */
const statements = new Map<string, string>();

function statementOf(engine: Engine, table: TableName, way: Way, columns: readonly string[]): string {
  const key = `${engine} ${way} ${table} ${columns.join(' ')}`;
  const known = statements.get(key);
  if (known !== undefined) return known;
  const types: Readonly<Record<string, ColumnType>> = COLUMNS[table];
  const value = (column: string, index: number): string => jsonValue(engine, index, types[column] ?? 'text');
  const sql =
    way === 'update'
      ? updateStatement(table, columns, columns.map(value), JSON_ROWS[engine])
      : insertStatement(table, way, columns, columns.map(value), JSON_ROWS[engine]);
  statements.set(key, sql);
  return sql;
}

/** Expects the id as the first column. */
function updateStatement(
  table: TableName,
  columns: readonly string[],
  values: readonly string[],
  source: string,
): string {
  const assignments = columns.map((column, index) => `"${column}" = ${values[index] ?? ''}`).slice(1);
  return `UPDATE "${table}" SET ${assignments.join(', ')} FROM ${source} WHERE "${table}"."id" = v.value ->> 0`;
}

function insertStatement(
  table: TableName,
  way: 'insert' | 'upsert' | 'once',
  columns: readonly string[],
  values: readonly string[],
  source: string,
): string {
  const names = columns.map((column) => `"${column}"`);
  // "WHERE true": without it SQLite's parser would take ON CONFLICT for a join condition.
  const insert = `INSERT INTO "${table}" (${names.join(', ')}) SELECT ${values.join(', ')} FROM ${source} WHERE true`;
  if (way === 'once') return `${insert} ON CONFLICT ("id") DO NOTHING`;
  if (way === 'insert') return insert;
  const assignments = names.filter((name) => name !== '"id"').map((name) => `${name} = excluded.${name}`);
  return `${insert} ON CONFLICT ("id") DO UPDATE SET ${assignments.join(', ')}`;
}

/**
 * Writes what has changed, with one statement per table. If a table gets no new rows, only the columns that
 * changed in at least one row are updated, so unaffected indexes are not touched.
 *
 * @param tx holds the locks that `load` takes
 * @throws LostRace when another transaction may have taken a unique value; Error when a loaded row no longer exists
 */
export async function write(tx: Tx, before: Rows, after: Rows): Promise<void> {
  // In the order that foreign keys require.
  await put(tx, 'Customer', before.customers, after.customers);
  await put(tx, 'Subscription', before.subscriptions, after.subscriptions);
  await put(tx, 'Invoice', before.invoices, after.invoices);
  await put(tx, 'Payment', before.payments, after.payments);
  await put(tx, 'Dispute', before.disputes, after.disputes);
  await put(tx, 'User', before.users, after.users);
  await put(tx, 'Referral', before.referrals, after.referrals);
  await append(tx, 'CreditEntry', after.entries);
  await append(tx, 'AuditRow', after.audit);
  await appendOutbox(tx, after.outbox);
}

/**
 * Appends to the outbox and wakes the sender after the commit. An item whose id exists already is skipped: it was
 * queued before, and may be done.
 */
export async function appendOutbox(tx: Tx, items: readonly OutboxItem[]): Promise<void> {
  if (items.length === 0) return;
  const count = await run(tx, 'OutboxItem', 'once', Object.keys(COLUMNS.OutboxItem), items);
  if (count === 0) return;
  tx.afterCommit(() => {
    outboxQueued.inc(count);
    tellQueued();
  });
}

async function put<Row extends { id: string }>(
  tx: Tx,
  table: TableName,
  before: ReadonlyMap<string, Row>,
  after: ReadonlyMap<string, Row>,
): Promise<void> {
  const changes = [...after].flatMap(([key, row]) => {
    const known = before.get(key);
    return known === row ? [] : [{ known, row }];
  });
  if (changes.length === 0) return;
  const rows = changes.map(({ row }) => row);
  const all = WRITTEN[table] ?? Object.keys(COLUMNS[table]).filter((column) => column !== 'id');
  if (changes.some(({ known }) => known === undefined))
    return execute(tx, table, 'upsert', ['id', ...all], rows);
  const columns = all.filter((column) =>
    changes.some(({ known, row }) => known && differs(known, row, column)),
  );
  if (columns.length > 0) await execute(tx, table, 'update', ['id', ...columns], rows);
}

function differs(known: object, row: object, column: string): boolean {
  const [before, after] = [known, row].map((one) => {
    const value = (one as Record<string, unknown>)[column];
    return value instanceof Date ? value.getTime() : value;
  });
  return before !== after;
}

async function append(tx: Tx, table: TableName, rows: readonly object[]): Promise<void> {
  if (rows.length > 0) await execute(tx, table, 'insert', Object.keys(COLUMNS[table]), rows);
}

async function execute(
  tx: Tx,
  table: TableName,
  way: Way,
  columns: readonly string[],
  rows: readonly object[],
): Promise<void> {
  const count = await run(tx, table, way, columns, rows);
  if (count !== rows.length)
    throw new Error(`Only ${count} of ${rows.length} rows of the table ${table} were written.`);
}

async function run(
  tx: Tx,
  table: TableName,
  way: Way,
  columns: readonly string[],
  rows: readonly object[],
): Promise<number> {
  const values = rows.map((row) => toJson(row, columns, tx.engine));
  const sql = statementOf(tx.engine, table, way, columns);
  return tx.$executeRawUnsafe(sql, JSON.stringify(values)).catch((error: unknown) => {
    // Each address has one trial and one conversion. If two servers write one at once, the loser decides again. SQLite
    // has one writer, so nobody else can have taken the value there.
    throw tx.engine === 'postgresql' && isUniqueViolation(error) ? new LostRace(error) : error;
  });
}
