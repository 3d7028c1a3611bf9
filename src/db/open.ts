import { mkdir, open } from 'node:fs/promises';
import { dirname, join } from 'node:path';

import { isDriverAdapterError } from '@prisma/driver-adapter-utils';

import { nativeModuleProblem } from '../native-module.ts';
import { ownerOnly } from '../owner-only.ts';
import { PlainError } from '../plain-error.ts';
import { ROOT } from '../root.ts';
import { migrate, migrationNames } from './migrate.ts';
import { commitInGroups } from './transaction.ts';
import type { Db } from './transaction.ts';

/** Each kind of database has a schema and migrations of its own, made from one set of models. */
const SQLITE_FOLDER = join(ROOT, 'prisma');
const POSTGRESQL_FOLDER = join(SQLITE_FOLDER, 'postgresql');

/** How long a server waits for a busy SQLite database before it refuses a request, ms: Stripe waits no longer. */
const SERVER_WAIT_MS = 10_000;

/** How long a command waits for a busy SQLite database, ms. */
export const COMMAND_WAIT_MS = 30_000;

/** Where what belongs to an installation lies when its database is no file. */
const DATA_FOLDER = './data';

/**
 * Opens the database and brings it to this code's schema. A SQLite file and its folder are made when there are none;
 * a PostgreSQL database must be there.
 *
 * @param url `file:` and a path, relative to the working directory or absolute, or `postgresql://…`
 * @param waitMs how long to wait while another process writes to a SQLite database, ms
 * @returns the client, and the names of the migrations applied now
 * @throws PlainError when it cannot be opened or reached, or its schema is newer than ours
 */
export async function openDatabase(
  url: string,
  waitMs = SERVER_WAIT_MS,
): Promise<{ db: Db; migrations: string[] }> {
  return isPostgresql(url) ? openPostgresql(url) : openSqlite(databasePath(url), waitMs);
}

/**
 * @param url DATABASE_URL
 * @returns the names of the migrations that a database of its kind must have
 */
export function neededMigrations(url: string): Promise<string[]> {
  return migrationNames(isPostgresql(url) ? POSTGRESQL_FOLDER : SQLITE_FOLDER);
}

/**
 * @param url DATABASE_URL
 * @returns whether it names a PostgreSQL database; else it is a SQLite file
 */
export function isPostgresql(url: string): boolean {
  return /^postgres(ql)?:/.test(url);
}

/**
 * @param url `file:` and a path
 * @returns the path of the database file
 */
export function databasePath(url: string): string {
  return url.replace(/^file:/, '');
}

/**
 * @param url DATABASE_URL
 * @returns the folder of what belongs to the installation and is not in the database: beside a SQLite file
 */
export function dataFolder(url: string): string {
  return isPostgresql(url) ? DATA_FOLDER : dirname(databasePath(url));
}

// Each engine's client and driver are loaded when they are used: the other one's would only take memory.

async function openSqlite(path: string, waitMs: number): Promise<{ db: Db; migrations: string[] }> {
  const { PrismaClient } = await import('./generated/client.ts');
  const { sqliteAdapterFactory, withReader } = await import('./sqlite-adapter.ts');
  try {
    await makePrivate(path);
    const migrations = await migrate(sqliteAdapterFactory(path, waitMs), SQLITE_FOLDER);
    const db = new PrismaClient({ adapter: withReader(path, waitMs), errorFormat: 'minimal' });
    commitInGroups(db);
    return { db, migrations };
  } catch (error) {
    if (error instanceof PlainError) throw error;
    throw (
      nativeModuleProblem(error) ??
      new PlainError(`The database ${path} cannot be opened: ${explainSqlite(error)}`)
    );
  }
}

/** What lies in it is personal: whatever the umask, and whatever was there before, only the owner can read it. */
async function makePrivate(path: string): Promise<void> {
  await mkdir(dirname(path), { recursive: true, mode: 0o700 });
  // Made by us and not by SQLite, which gives what it makes beside it the same mode.
  await (await open(path, 'a', 0o600)).close();
  for (const end of ['', '-wal', '-shm', '-journal']) await ownerOnly(path + end);
}

async function openPostgresql(url: string): Promise<{ db: Db; migrations: string[] }> {
  const { PrismaClient } = await import('./generated-postgresql/client.ts');
  const { postgresqlAdapterFactory } = await import('./postgresql-adapter.ts');
  const { host, pathname } = new URL(url);
  try {
    // One connection: the engine's lock against other processes that migrate belongs to a connection.
    const migrations = await migrate(postgresqlAdapterFactory(url, 1), POSTGRESQL_FOLDER);
    const client = new PrismaClient({ adapter: postgresqlAdapterFactory(url), errorFormat: 'minimal' });
    // The models are the same, and so are the clients but for what only PostgreSQL can do, which we do not use.
    return { db: client as unknown as Db, migrations };
  } catch (error) {
    if (error instanceof PlainError) throw error;
    // Never the whole address: it holds the password.
    throw new PlainError(
      `The database ${pathname.slice(1)} at ${host} cannot be opened: ${explainPostgresql(error)}`,
    );
  }
}

function explainSqlite(error: unknown): string {
  const { message, code } = driverError(error);
  if (message.includes('file is not a database') || message.includes('malformed')) {
    return 'the file is damaged, or is no SQLite database. Restore a backup, or name another file in DATABASE_URL.';
  }
  if (code?.startsWith('SQLITE_BUSY')) {
    return 'another process keeps it locked. Wait until that one is done, then try again.';
  }
  if (code === 'SQLITE_CANTOPEN' || code === 'EACCES' || code === 'EROFS' || message.includes('readonly')) {
    return 'the folder or the file cannot be written. Mend its permissions, or name another file in DATABASE_URL.';
  }
  return `${message.replaceAll('\n', ' ')}. Name another file in DATABASE_URL.`;
}

function explainPostgresql(error: unknown): string {
  const kind = isDriverAdapterError(error) ? error.cause.kind : null;
  switch (kind) {
    case 'DatabaseNotReachable':
    case 'ConnectionClosed':
    case 'SocketTimeout':
      return 'no server answers there. Start it, or mend the host and the port in DATABASE_URL.';
    case 'AuthenticationFailed':
    case 'DatabaseAccessDenied':
      return 'the server refuses the user or the password. Mend them in DATABASE_URL.';
    case 'DatabaseDoesNotExist':
      return 'the server has no such database. Make it with createdb, or name another one in DATABASE_URL.';
    default:
      return `${driverError(error).message.replaceAll('\n', ' ')}.`;
  }
}

/** The driver's own words: Prisma wraps them, and tells only a category of its own. */
function driverError(error: unknown): { message: string; code: string | undefined } {
  if (isDriverAdapterError(error)) {
    const { originalMessage, originalCode } = error.cause;
    return { message: originalMessage ?? error.message, code: originalCode };
  }
  const { message, code } = error as NodeJS.ErrnoException;
  return { message, code };
}
