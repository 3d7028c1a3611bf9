import { createHash } from 'node:crypto';
import { access, constants } from 'node:fs/promises';

import { isDriverAdapterError } from '@prisma/driver-adapter-utils';
import type { Transaction } from '@prisma/driver-adapter-utils';
import Database from 'better-sqlite3';

import type { Config } from '../config.ts';
import { Prisma } from '../db/generated/client.ts';
import { COMMAND_WAIT_MS, databasePath, isPostgresql, openDatabase } from '../db/open.ts';
import { postgresqlAdapterFactory } from '../db/postgresql-adapter.ts';
import { isUnreachable } from '../db/transaction.ts';
import { PlainError } from '../plain-error.ts';
import { sessionSecretFile } from '../session-secret.ts';
import { counted, sentence } from '../wording.ts';
import { cannotRead } from './backup.ts';
import type { CommandResult } from './command.ts';

/** Limits of one statement, so that memory stays flat however large the database is. */
const BATCH_ROWS = 1000;
const BATCH_CHARACTERS = 250_000;

type Value = string | number | bigint | Buffer | null;

interface Column {
  name: string;
  /** As declared in SQLite's schema: TEXT, INTEGER, BOOLEAN or DATETIME. */
  type: string;
}

interface Table {
  name: string;
  columns: Column[];
  /** The columns of the primary key, in order. */
  key: string[];
}

interface Content {
  rows: number;
  /**
   * SHA-256 over the SHA-256 of every row, in the order of the primary key, in hexadecimal. Rows are hashed first, so
   * that PostgreSQL collects 32 bytes of each and not the whole table.
   */
  sha256: string;
}

/**
 * `migrate-to`: copies everything from the configured SQLite database into an empty PostgreSQL database, in one
 * transaction and from one state of the source. Every row is compared before the commit. First it
 * creates the tables in the target and applies pending migrations to the source.
 *
 * @param url the target, `postgresql://…`
 * @throws PlainError when it fails; nothing was copied then, unless the connection broke during the commit
 */
export async function migrateTo(config: Config, url: string): Promise<CommandResult> {
  const path = await sourcePath(config, url);
  await prepareTarget(url);
  const isUpgraded = await prepareSource(config.databaseUrl);
  const source = new Database(path, { readonly: true, fileMustExist: true, timeout: COMMAND_WAIT_MS });
  try {
    const copied = await inOneTransaction(url, (tx) => copyEverything(source, tx));
    return summarise(copied, isUpgraded, await whichSecret(config));
  } catch (error) {
    const explained = explain(error);
    throw isUpgraded && explained instanceof PlainError ? alsoUpgraded(explained) : explained;
  } finally {
    source.close();
  }
}

async function sourcePath({ databaseUrl }: Config, url: string): Promise<string> {
  if (!isPostgresql(url) || !URL.canParse(url) || new URL(url).pathname.length < 2) {
    throw new PlainError(
      'The target must be a PostgreSQL database: postgresql://user:password@host:port/database.',
    );
  }
  if (isPostgresql(databaseUrl)) {
    throw new PlainError(
      'DATABASE_URL is already a PostgreSQL database, and only a SQLite database can be copied. ' +
        'To move it to another server, use pg_dump and pg_restore.',
    );
  }
  const path = databasePath(databaseUrl);
  try {
    await access(path, constants.R_OK);
  } catch (error) {
    throw cannotRead(path, error);
  }
  return path;
}

/** Migrates the source, so that source and target have the same tables. Returns whether anything was applied. */
async function prepareSource(url: string): Promise<boolean> {
  const { db, migrations } = await openDatabase(url, COMMAND_WAIT_MS);
  await db.$disconnect();
  return migrations.length > 0;
}

async function prepareTarget(url: string): Promise<void> {
  try {
    await (await openDatabase(url, COMMAND_WAIT_MS, 'create')).db.$disconnect();
  } catch (error) {
    if (!(error instanceof PlainError)) throw error;
    // The failure is about the target, but the message names DATABASE_URL, which is the source.
    throw new PlainError(error.message.replaceAll('DATABASE_URL', 'the address of the target'));
  }
}

/** Uses the adapter directly, because Prisma's transactions have a time limit. */
async function inOneTransaction<T>(url: string, work: (tx: Transaction) => Promise<T>): Promise<T> {
  const connection = await postgresqlAdapterFactory(url, 1).connect();
  try {
    const tx = await connection.startTransaction();
    try {
      const result = await work(tx);
      await execute(tx, 'COMMIT');
      return result;
    } finally {
      // This only returns the connection to the pool. Closing the pool discards anything uncommitted.
      await tx.rollback();
    }
  } finally {
    await connection.dispose();
  }
}

async function execute(tx: Transaction, sql: string, ...args: string[]): Promise<void> {
  const argTypes = args.map(() => ({ scalarType: 'string', arity: 'scalar' }) as const);
  await tx.executeRaw({ sql, args, argTypes });
}

async function query(tx: Transaction, sql: string): Promise<unknown[][]> {
  return (await tx.queryRaw({ sql, args: [], argTypes: [] })).rows;
}

async function copyEverything(source: Database.Database, tx: Transaction): Promise<Map<string, Content>> {
  // A read transaction: it keeps the state that its first statement sees.
  source.exec('BEGIN');
  const version = dataVersion(source);
  const tables = tablesInOrder(source);
  await makeReady(tx, tables);

  const copied = new Map<string, Content>();
  for (const table of tables) {
    const content = await copyTable(source, tx, table);
    await verify(tx, table, content);
    copied.set(table.name, content);
  }

  source.exec('COMMIT');
  if (dataVersion(source) !== version) {
    throw new PlainError(
      'Nothing was copied, because the database was written to meanwhile. Stop the servers and try again; ' +
        'to rehearse while they run, copy from a backup.',
    );
  }
  return copied;
}

/** Changes when another connection writes. https://www.sqlite.org/pragma.html#pragma_data_version */
function dataVersion(source: Database.Database): unknown {
  return source.pragma('data_version', { simple: true });
}

/** Every table of the models, each after the tables that its foreign keys refer to. */
function tablesInOrder(source: Database.Database): Table[] {
  const ordered = new Set<string>();
  const waiting = new Set<string>(Object.values(Prisma.ModelName));
  while (waiting.size > 0) {
    const free = [...waiting].filter((name) =>
      parentsOf(source, name).every((parent) => ordered.has(parent)),
    );
    if (free.length === 0) throw new Error(`These tables refer to each other: ${[...waiting].join(', ')}.`);
    for (const name of free) {
      ordered.add(name);
      waiting.delete(name);
    }
  }
  return [...ordered].map((name) => describeTable(source, name));
}

function parentsOf(source: Database.Database, name: string): string[] {
  return (source.pragma(`foreign_key_list("${name}")`) as { table: string }[]).map(({ table }) => table);
}

function describeTable(source: Database.Database, name: string): Table {
  const columns = source.pragma(`table_info("${name}")`) as { name: string; type: string; pk: number }[];
  const key = columns.filter(({ pk }) => pk > 0).sort((a, b) => a.pk - b.pk);
  return { name, columns, key: key.map((column) => column.name) };
}

async function makeReady(tx: Transaction, tables: Table[]): Promise<void> {
  // The administrator's statement timeout is not meant for this.
  await execute(tx, 'SET LOCAL statement_timeout = 0');
  // Report a broken reference at its insert and not at the commit. Parents are inserted before children.
  await execute(tx, 'SET CONSTRAINTS ALL IMMEDIATE');
  // Block other writers. Of two concurrent copies, the second finds the target filled.
  await execute(tx, `LOCK TABLE ${list(tables.map(({ name }) => name))} IN EXCLUSIVE MODE`);
  for (const { name } of tables) {
    const rows = await query(tx, `SELECT 1 FROM "${name}" LIMIT 1`);
    if (rows.length > 0) {
      throw new PlainError(
        `The target is not empty: its table ${name} has rows. Use an empty database; createdb creates one.`,
      );
    }
  }
}

async function copyTable(source: Database.Database, tx: Transaction, table: Table): Promise<Content> {
  const columns = list(table.columns.map(({ name }) => name));
  // PostgreSQL casts the values from SQLite's JSON to the types of the columns.
  const insert = `INSERT INTO "${table.name}" (${columns})
    SELECT ${columns} FROM json_populate_recordset(NULL::"${table.name}", $1::text::json)`;
  const read = source.prepare<[], Record<string, Value>>(
    `SELECT ${columns} FROM "${table.name}" ORDER BY ${list(table.key)}`,
  );

  const hash = createHash('sha256');
  let rows = 0;
  let batch: string[] = [];
  let characters = 0;
  async function send(): Promise<void> {
    if (batch.length > 0) await execute(tx, insert, `[${batch.join(',')}]`);
    batch = [];
    characters = 0;
  }
  for (const row of read.iterate()) {
    hash.update(createHash('sha256').update(lineOf(table, row)).digest());
    const json = JSON.stringify(row);
    batch.push(json);
    rows += 1;
    characters += json.length;
    if (batch.length === BATCH_ROWS || characters >= BATCH_CHARACTERS) await send();
  }
  await send();
  return { rows, sha256: hash.digest('hex') };
}

/** A row as unambiguous text: for each value, in order of the columns, its length in bytes and the value. */
function lineOf({ columns }: Table, row: Record<string, Value>): string {
  return columns
    .map(({ name }) => {
      const value = row[name] ?? null;
      return value === null ? '-' : `${Buffer.byteLength(String(value))}:${String(value)}`;
    })
    .join(',');
}

/** The same text produced by PostgreSQL, with instants and booleans written as SQLite stores them. */
function lineInSql({ columns }: Table): string {
  const values = columns.map(({ name, type }) => {
    if (type === 'DATETIME') return `to_char("${name}", 'YYYY-MM-DD"T"HH24:MI:SS.MS"+00:00"')`;
    return type === 'BOOLEAN' ? `"${name}"::int::text` : `"${name}"::text`;
  });
  return `concat_ws(',', ${values.map((value) => `coalesce(octet_length(${value}) || ':' || ${value}, '-')`).join(', ')})`;
}

async function verify(tx: Transaction, table: Table, copied: Content): Promise<void> {
  const [[rows, sha256] = []] = await query(
    tx,
    `SELECT count(*)::int, encode(sha256(coalesce(string_agg(
       sha256(convert_to(${lineInSql(table)}, 'UTF8')), ''::bytea ORDER BY ${list(table.key)}), ''::bytea)), 'hex')
     FROM "${table.name}"`,
  );
  if (rows === copied.rows && sha256 === copied.sha256) return;
  throw new PlainError(
    `The copy of the table ${table.name} differs: ${rows === copied.rows ? 'some values are not the same' : `it has ${Number(rows)} of ${copied.rows} rows`}. ` +
      'Nothing was copied. Check that the encoding of the target is UTF8 and that every instant in the source is written like 2027-01-10T09:00:00.000+00:00.',
  );
}

function list(names: readonly string[]): string {
  return names.map((name) => `"${name}"`).join(', ');
}

/** Which session secret keeps everybody logged in. It is next to the servers' database, but not next to a backup. */
async function whichSecret({ sessionSecret, databaseUrl }: Config): Promise<string> {
  if (sessionSecret !== null) return 'Keep SESSION_SECRET as it is';
  const path = sessionSecretFile(databaseUrl);
  try {
    await access(path);
    return `Set SESSION_SECRET to the content of ${path}`;
  } catch {
    return (
      'Set SESSION_SECRET to the value that the servers use now. ' +
      'If they have none set, copy it from the file session-secret next to their database'
    );
  }
}

function summarise(copied: ReadonlyMap<string, Content>, isUpgraded: boolean, secret: string): CommandResult {
  const tables = [...copied].map(([name, content]) => ({ name, ...content }));
  const rows = tables.reduce((sum, table) => sum + table.rows, 0);
  const text = [
    ...tables.map((table) => `${table.name.padEnd(14)}  ${counted(table.rows, 'row')}`),
    `Copied and compared ${counted(rows, 'row')}.`,
    'Now set DATABASE_URL to the new address, run `doctor`, start the servers, then run `reconcile`.',
    `${secret}. With a different secret everybody has to log in again.`,
    `The SQLite file ${isUpgraded ? 'was migrated to this version and is otherwise' : 'is'} unchanged. ` +
      'Keep it until you are sure, then delete it: it contains personal data.',
  ].join('\n');
  return { text, json: { rows, tables } };
}

function explain(error: unknown): unknown {
  if (error instanceof Database.SqliteError) {
    return nothingCopied(
      error.code.startsWith('SQLITE_BUSY')
        ? 'another process is using the SQLite file. Stop the servers and try again.'
        : `${error.message} (${error.code}). Check the SQLite file and its disk, then try again.`,
    );
  }
  if (isUnreachable(error)) {
    return new PlainError(
      'The connection to the target was lost. If its tables are empty, nothing was copied: try again. If they have rows, everything was copied: set DATABASE_URL to the target and run `doctor`.',
    );
  }
  if (!isDriverAdapterError(error)) return error;
  if (error.cause.kind === 'TransactionWriteConflict') {
    return nothingCopied('another process is writing to the target. Stop its servers and try again.');
  }
  return nothingCopied(
    `${sentence(error.cause.originalMessage ?? error.message)} Fix the cause, then try again.`,
  );
}

function alsoUpgraded({ message }: PlainError): PlainError {
  return new PlainError(
    `${message} The SQLite file was migrated to this version, so servers of an older version cannot use it any more.`,
  );
}

function nothingCopied(why: string): PlainError {
  return new PlainError(`Nothing was copied: ${why.replaceAll(/\s+/g, ' ').trim()}`);
}
