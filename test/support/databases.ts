import { copyFile, mkdtemp } from 'node:fs/promises';
import { join } from 'node:path';

import Database from 'better-sqlite3';
import { inject, onTestFinished } from 'vitest';

import { databasePath, openDatabase } from '../../src/db/open.ts';
import type { Db } from '../../src/db/transaction.ts';
import { asAdministrator, databaseOn, newDatabaseName } from './postgresql-databases.ts';
import './provided.ts';

/** A migrated database with an open client. */
export interface OpenDatabase {
  databaseUrl: string;
  db: Db;
  /** Its schema when it was new. */
  schema: string;
}

/**
 * Databases that earlier tests of this worker gave back, emptied. Opening a client takes longer than most tests, and
 * emptying a database takes almost no time.
 */
const free: OpenDatabase[] = [];

/** An empty database for one test; return it with `giveBack`. */
export async function takeDatabase(): Promise<OpenDatabase> {
  const kept = free.pop();
  if (kept) return kept;
  const databaseUrl = await makeDatabase();
  const { db } = await openDatabase(databaseUrl);
  return { databaseUrl, db, schema: await schemaOf(db) };
}

/** Empties a database and keeps it for another test, unless its schema was changed: then it is closed for good. */
export async function giveBack(database: OpenDatabase): Promise<void> {
  const { db, databaseUrl, schema } = database;
  if ((await schemaOf(db)) === schema) {
    await empty(databaseUrl, db);
    free.push(database);
  } else {
    await db.$disconnect();
  }
}

/** The URL of a copy of the migrated, empty database; on PostgreSQL it is dropped after the test. */
export async function newDatabase(): Promise<string> {
  const url = await makeDatabase();
  const server = inject('postgresqlServer');
  if (server !== null) dropAfterTest(server, url);
  return url;
}

/** A PostgreSQL database without migrations, dropped after the test. */
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
  const name = newDatabaseName(inject('templateDatabase'));
  await asAdministrator(server, `CREATE DATABASE ${name} TEMPLATE ${template}`);
  return databaseOn(server, name);
}

function dropAfterTest(server: string, url: string): void {
  const name = new URL(url).pathname.slice(1);
  onTestFinished(async () => {
    await asAdministrator(server, `DROP DATABASE ${name} WITH (FORCE)`);
  });
}

/** Everything that a test can add or remove: columns, constraints, indexes, triggers, migrations. */
async function schemaOf(db: Db): Promise<string> {
  if (inject('engine') === 'sqlite') {
    const parts = await db.$queryRaw`SELECT coalesce("sql", "name") AS part FROM sqlite_schema ORDER BY 1`;
    const migrations = await db.$queryRaw`
      SELECT "migration_name", "finished_at", "rolled_back_at" FROM "_prisma_migrations" ORDER BY "migration_name"`;
    return JSON.stringify([parts, migrations]);
  }
  const [{ digest }] = await db.$queryRaw<[{ digest: string }]>`
    SELECT md5(string_agg(part, ';' ORDER BY part)) AS digest FROM (
      SELECT c.relname || ' ' || a.attname || ' ' || a.atttypid AS part
        FROM pg_class AS c JOIN pg_attribute AS a ON a.attrelid = c.oid
        WHERE c.relnamespace = 'public'::regnamespace AND a.attnum > 0
      UNION ALL SELECT conname || ' ' || pg_get_constraintdef(oid) FROM pg_constraint
        WHERE connamespace = 'public'::regnamespace
      UNION ALL SELECT tgname FROM pg_trigger WHERE NOT tgisinternal
      UNION ALL SELECT proname FROM pg_proc WHERE pronamespace = 'public'::regnamespace
      UNION ALL SELECT concat_ws(' ', "migration_name", "finished_at", "rolled_back_at") FROM "_prisma_migrations"
    ) AS parts`;
  return digest;
}

/** Deletes all rows, whatever refers to them. */
async function empty(databaseUrl: string, db: Db): Promise<void> {
  if (databaseUrl.startsWith('file:')) {
    emptySqlite(databasePath(databaseUrl));
    return;
  }
  await db.$executeRaw`
    DO $$ DECLARE it regclass; BEGIN
      SET LOCAL session_replication_role = replica;
      FOR it IN SELECT oid FROM pg_class
        WHERE relnamespace = 'public'::regnamespace AND relkind = 'r' AND relname <> '_prisma_migrations'
      LOOP EXECUTE format('DELETE FROM %s', it); END LOOP;
    END $$`;
}

function emptySqlite(path: string): void {
  const database = new Database(path);
  try {
    database.pragma('foreign_keys = OFF');
    database.pragma('synchronous = OFF');
    const tables = database
      .prepare(`SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE '\\_%' ESCAPE '\\'`)
      .pluck()
      .all() as string[];
    database.exec(`BEGIN IMMEDIATE; ${tables.map((table) => `DELETE FROM "${table}";`).join(' ')} COMMIT`);
  } finally {
    database.close();
  }
}
