import Database from 'better-sqlite3';
import { Client } from 'pg';
import { onTestFinished, vi } from 'vitest';

import { databasePath } from '../../src/db/open.ts';
import { until } from './process.ts';

/** A separate connection to a server's database, like another process's. It is closed after the test. */
export interface OtherConnection {
  /** Runs statements separated by semicolons. */
  run: (statements: string) => Promise<void>;
  rows: (query: string) => Promise<Record<string, unknown>[]>;
  /** Closes it before the test has finished. */
  close: () => Promise<void>;
}

export async function otherConnection({ databaseUrl }: { databaseUrl: string }): Promise<OtherConnection> {
  if (databaseUrl.startsWith('file:')) {
    const database = new Database(databasePath(databaseUrl));
    const close = (): Promise<void> => Promise.resolve(void database.close());
    onTestFinished(close);
    return {
      run: (statements) => {
        database.exec(statements);
        return Promise.resolve();
      },
      rows: (query) => Promise.resolve(database.prepare(query).all() as Record<string, unknown>[]),
      close,
    };
  }
  const client = new Client({ connectionString: databaseUrl });
  await client.connect();
  // Its database is force-dropped when the test has finished.
  client.on('error', () => undefined);
  const close = (): Promise<void> => client.end().catch(() => undefined);
  onTestFinished(close);
  return {
    run: async (statements) => {
      await client.query(statements);
    },
    rows: async (query) => (await client.query<Record<string, unknown>>(query)).rows,
    close,
  };
}

/** A database that lacks a migration. */
interface OlderDatabase {
  /** The migration that it lacks. */
  missing: string;
  isStillOlder: () => Promise<boolean>;
}

/** Makes a database look as if an older version had made it, one that did not have the newest migration. */
export async function makeOlder(databaseUrl: string): Promise<OlderDatabase> {
  const { run, rows } = await otherConnection({ databaseUrl });
  const newest = async (): Promise<string> => {
    const [row] = await rows(`SELECT MAX("migration_name") AS "name" FROM "_prisma_migrations"`);
    return String(row?.['name']);
  };
  const missing = await newest();
  await run(`DELETE FROM "_prisma_migrations" WHERE "migration_name" = '${missing}'`);
  return { missing, isStillOlder: async () => (await newest()) < missing };
}

/** Something that blocks the server under test until it is lifted. */
interface Obstacle {
  lift: () => Promise<void>;
}

/**
 * Makes the database refuse one kind of write, as a full disk or a bug would.
 *
 * @param write `INSERT`, `UPDATE`, `UPDATE OF "column"` …
 * @param when refuses only while this SQL condition holds; always when omitted
 */
export async function refuseWrites(
  server: { databaseUrl: string },
  write: string,
  table: string,
  when = 'true',
): Promise<Obstacle> {
  return addTrigger(server, `BEFORE ${write} ON "${table}"`, {
    sqlite: `WHEN ${when} BEGIN SELECT RAISE(ABORT, 'refused'); END`,
    postgresql: `BEGIN IF ${when} THEN RAISE EXCEPTION 'refused'; END IF; RETURN NEW; END`,
  });
}

/**
 * Makes COMMIT fail for every transaction that inserted into a table, as when a disk fills up: the first such insert
 * adds a row with a dangling deferred foreign key, which only COMMIT checks.
 */
export async function refuseCommits(server: { databaseUrl: string }, table: string): Promise<Obstacle> {
  const pointsNowhere = `INSERT INTO "Invoice" ("id", "subscriptionId") VALUES ('in_broken', 'nowhere')
    ON CONFLICT DO NOTHING`;
  return addTrigger(server, `AFTER INSERT ON "${table}"`, {
    sqlite: `BEGIN ${pointsNowhere}; END`,
    postgresql: `BEGIN ${pointsNowhere}; RETURN NULL; END`,
  });
}

async function addTrigger(
  server: { databaseUrl: string },
  event: string,
  body: { sqlite: string; postgresql: string },
): Promise<Obstacle> {
  const { run, close } = await otherConnection(server);
  const onSqlite = server.databaseUrl.startsWith('file:');
  await run(
    onSqlite
      ? `CREATE TRIGGER obstacle ${event} ${body.sqlite}`
      : `CREATE FUNCTION obstruct() RETURNS trigger LANGUAGE plpgsql AS $$ ${body.postgresql} $$;
         CREATE TRIGGER obstacle ${event} FOR EACH ROW EXECUTE FUNCTION obstruct()`,
  );
  return {
    lift: async () => {
      await run(onSqlite ? 'DROP TRIGGER obstacle' : 'DROP FUNCTION obstruct CASCADE');
      await close();
    },
  };
}

/** Another process in the middle of a write; `lift` commits it. */
interface Writer extends Obstacle {
  /** Waits until that write blocks a statement of the server under test, which is in this process. */
  blocks: () => Promise<void>;
}

/**
 * Another process in the middle of a long write that blocks every event: on SQLite it holds the write lock, on
 * PostgreSQL it has locked the event ledger.
 */
export async function keepBusy(server: { databaseUrl: string }): Promise<Writer> {
  const { run, rows, close } = await otherConnection(server);
  const onSqlite = server.databaseUrl.startsWith('file:');
  await run(onSqlite ? 'BEGIN IMMEDIATE' : 'BEGIN; LOCK TABLE "Event" IN EXCLUSIVE MODE');
  const hasWaiters = async (): Promise<boolean> => {
    const here = '(SELECT oid FROM pg_database WHERE datname = current_database())';
    return (await rows(`SELECT 1 FROM pg_locks WHERE NOT granted AND database = ${here}`)).length > 0;
  };
  const isBlocking = onSqlite ? watchForBusy() : hasWaiters;
  return {
    blocks: async () => {
      await until(async () => (await isBlocking()) || undefined);
    },
    lift: async () => {
      await run('COMMIT');
      await close();
    },
  };
}

/**
 * SQLite has no list of those who wait for its lock, so this watches every statement of this process.
 *
 * @returns a function that says whether a statement has found the database busy since this call
 */
function watchForBusy(): () => boolean {
  const probe = new Database(':memory:');
  const statements = Object.getPrototypeOf(probe.prepare('SELECT 1')) as Database.Statement;
  probe.close();
  const runs = vi.spyOn(statements, 'run');
  onTestFinished(() => {
    runs.mockRestore();
  });
  return () =>
    runs.mock.results.some(
      ({ type, value }) =>
        type === 'throw' && value instanceof Database.SqliteError && value.code === 'SQLITE_BUSY',
    );
}

/**
 * Gives the URL of a PostgreSQL database a lock timeout of 100 ms, so that tests need not wait long. SQLite has no such
 * setting.
 */
export function impatient(databaseUrl: string): string {
  return databaseUrl.startsWith('file:') ? databaseUrl : `${databaseUrl}?lock_timeout=100`;
}
