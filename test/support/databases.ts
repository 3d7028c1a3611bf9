import { copyFile, mkdtemp } from 'node:fs/promises';
import { join } from 'node:path';

import Database from 'better-sqlite3';
import { inject, onTestFinished } from 'vitest';

import { openDatabase } from '../../src/db/open.ts';
import type { Db } from '../../src/db/transaction.ts';
import { asAdministrator, databaseOn, newDatabaseName } from './postgresql-databases.ts';
import './provided.ts';

/** A migrated database with a client that is open on it. */
export interface OpenDatabase {
  databaseUrl: string;
  db: Db;
}

/**
 * Databases that earlier tests of this worker have given back, empty again. Opening a client costs more than most tests
 * take, and emptying a database costs almost nothing.
 */
const free: OpenDatabase[] = [];

/** An empty database that nobody else uses; give it back with `giveBack`. */
export async function takeDatabase(): Promise<OpenDatabase> {
  const kept = free.pop();
  if (kept) return kept;
  const databaseUrl = await makeDatabase();
  const { db } = await openDatabase(databaseUrl);
  return { databaseUrl, db };
}

/** Empties a database and keeps it for another test, unless somebody changed its schema: that one is closed for good. */
export async function giveBack(database: OpenDatabase): Promise<void> {
  if (await emptied(database)) free.push(database);
  else await database.db.$disconnect();
}

/** The address of a copy of the migrated, empty database; on PostgreSQL it is gone after the test. */
export async function newDatabase(): Promise<string> {
  const url = await makeDatabase();
  const server = inject('postgresqlServer');
  if (server !== null) dropAfterTest(server, url);
  return url;
}

/** A PostgreSQL database that has not been migrated; it is gone after the test. */
export async function newEmptyDatabase(): Promise<string> {
  const server = inject('postgresqlServer') ?? '';
  const url = await makePostgresqlDatabase(server, 'template1');
  dropAfterTest(server, url);
  return url;
}

async function makeDatabase(): Promise<string> {
  const server = inject('postgresqlServer');
  if (server !== null) return makePostgresqlDatabase(server, inject('templateDatabase'));
  const folder = await mkdtemp(join(inject('scratch'), 'db-'));
  const path = join(folder, 'tandem.db');
  await copyFile(inject('templateDatabase'), path);
  return `file:${path}`;
}

async function makePostgresqlDatabase(server: string, template: string): Promise<string> {
  const name = newDatabaseName();
  await asAdministrator(server, `CREATE DATABASE ${name} TEMPLATE ${template}`);
  return databaseOn(server, name);
}

function dropAfterTest(server: string, url: string): void {
  const name = new URL(url).pathname.slice(1);
  onTestFinished(() => asAdministrator(server, `DROP DATABASE ${name} WITH (FORCE)`));
}

/** Deletes all rows; false when the schema is not the migrated one any more. */
async function emptied({ databaseUrl, db }: OpenDatabase): Promise<boolean> {
  return databaseUrl.startsWith('file:')
    ? emptySqlite(databaseUrl.replace('file:', ''))
    : emptyPostgresql(db);
}

function emptySqlite(path: string): boolean {
  const database = new Database(path);
  try {
    database.pragma('foreign_keys = OFF');
    database.pragma('synchronous = OFF');
    const schema = schemaOf(database);
    template ??= templateSchema();
    if (schema.join('\n') !== template.join('\n')) return false;
    const tables = database
      .prepare(`SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE '\\_%' ESCAPE '\\'`)
      .pluck()
      .all() as string[];
    database.exec(`BEGIN IMMEDIATE; ${tables.map((table) => `DELETE FROM "${table}";`).join(' ')} COMMIT`);
    return true;
  } finally {
    database.close();
  }
}

let template: string[] | undefined;

function templateSchema(): string[] {
  const database = new Database(inject('templateDatabase'), { readonly: true });
  try {
    return schemaOf(database);
  } finally {
    database.close();
  }
}

function schemaOf(database: Database.Database): string[] {
  return database
    .prepare('SELECT coalesce(sql, name) FROM sqlite_schema ORDER BY 1')
    .pluck()
    .all() as string[];
}

/** Triggers and tables of their own are what tests add. */
async function emptyPostgresql(db: Db): Promise<boolean> {
  const tables = await db.$queryRaw<{ name: string }[]>`
    SELECT c.relname::text AS name FROM pg_class AS c
    WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'r' AND c.relname <> '_prisma_migrations'`;
  const [added] = await db.$queryRaw<{ count: number }[]>`
    SELECT (SELECT count(*)::int FROM pg_trigger WHERE NOT tgisinternal)
      + (SELECT count(*)::int FROM pg_proc WHERE pronamespace = 'public'::regnamespace) AS count`;
  if (added?.count !== 0) return false;
  const deletes = tables.map(({ name }) => `DELETE FROM "${name}";`).join(' ');
  await db.$executeRawUnsafe(`DO $$ BEGIN SET LOCAL session_replication_role = replica; ${deletes} END $$`);
  return true;
}
