import { access, mkdir, open } from 'node:fs/promises';
import { dirname, join } from 'node:path';

import { isDriverAdapterError } from '@prisma/driver-adapter-utils';

import { nativeModuleProblem } from '../native-module.ts';
import { ownerOnly } from '../owner-only.ts';
import { PlainError } from '../plain-error.ts';
import { ROOT } from '../root.ts';
import { sentence } from '../wording.ts';
import { PrismaClient } from './generated/client.ts';
import { migrate, migrationNames } from './migrate.ts';
import type { Pending } from './migrate.ts';
import { commitInGroups } from './transaction.ts';
import type { Db } from './transaction.ts';

const SQLITE_FOLDER = join(ROOT, 'prisma');
const POSTGRESQL_FOLDER = join(SQLITE_FOLDER, 'postgresql');

/** How long a server waits for a busy SQLite database before refusing a request, ms. Stripe does not wait longer. */
const SERVER_WAIT_MS = 10_000;

/** How long a command waits for a busy SQLite database, ms. */
export const COMMAND_WAIT_MS = 30_000;

/** Where the installation's files go when the database is not a file. */
const DATA_FOLDER = './data';

/**
 * Opens the database with all migrations applied. A missing SQLite file is created with its folder; a
 * PostgreSQL database must exist.
 *
 * @param url `file:` and a path, relative to the working directory or absolute, or `postgresql://…`
 * @param waitMs how long to wait while another process writes to a SQLite database, ms
 * @returns the client, and the names of the migrations just applied
 * @throws PlainError when the database cannot be opened or reached, its schema is newer than ours, or it has pending
 *   migrations that are not to be applied
 */
export async function openDatabase(
  url: string,
  waitMs = SERVER_WAIT_MS,
  pending: Pending = 'apply',
): Promise<{ db: Db; migrations: string[] }> {
  return isPostgresql(url) ? openPostgresql(url, pending) : openSqlite(databasePath(url), waitMs, pending);
}

/** The names of the migrations that this database must have. */
export function neededMigrations(url: string): Promise<string[]> {
  return migrationNames(isPostgresql(url) ? POSTGRESQL_FOLDER : SQLITE_FOLDER);
}

export function isPostgresql(url: string): boolean {
  return /^postgres(ql)?:/.test(url);
}

export function databasePath(url: string): string {
  return url.replace(/^file:/, '');
}

/** Keeps only the parts that cannot contain a password; the query can. */
export function withoutPassword(databaseUrl: string): string {
  if (!isPostgresql(databaseUrl)) return `file:${databasePath(databaseUrl)}`;
  const { username, host, pathname } = new URL(databaseUrl);
  return `postgresql://${username === '' ? '' : `${username}@`}${host}${pathname}`;
}

/**
 * Keeps a command from creating an empty database where a wrong DATABASE_URL points.
 *
 * @throws PlainError when there is no SQLite file yet; PostgreSQL says so itself
 */
export async function expectDatabase(url: string): Promise<void> {
  if (isPostgresql(url)) return;
  const path = databasePath(url);
  try {
    await access(path);
  } catch (error) {
    // Anything else is explained better when the file is opened.
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') return;
    throw new PlainError(
      `There is no database at ${path}. Correct DATABASE_URL, or start the server once, which creates it.`,
    );
  }
}

/** The folder for the installation's own files: next to the SQLite file, or `./data`. */
export function dataFolder(url: string): string {
  return isPostgresql(url) ? DATA_FOLDER : dirname(databasePath(url));
}

// The drivers and PostgreSQL's client are imported on demand, to save memory. SQLite's client is loaded anyway: its
// `Prisma` serves both.

async function openSqlite(
  path: string,
  waitMs: number,
  pending: Pending,
): Promise<{ db: Db; migrations: string[] }> {
  const { sqliteAdapterFactory, withReader } = await import('./sqlite-adapter.ts');
  try {
    await makePrivate(path);
    const migrations = await migrate(sqliteAdapterFactory(path, waitMs), SQLITE_FOLDER, pending);
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

/** The file holds personal data: make it readable by the owner alone, whatever the umask and the previous mode. */
async function makePrivate(path: string): Promise<void> {
  await mkdir(dirname(path), { recursive: true, mode: 0o700 });
  // Create the file ourselves: SQLite gives the files next to it the same mode.
  await (await open(path, 'a', 0o600)).close();
  for (const end of ['', '-wal', '-shm', '-journal']) await ownerOnly(path + end);
}

async function openPostgresql(url: string, pending: Pending): Promise<{ db: Db; migrations: string[] }> {
  const { PrismaClient: PostgresqlClient } = await import('./generated-postgresql/client.ts');
  const { postgresqlAdapterFactory } = await import('./postgresql-adapter.ts');
  const { host, pathname } = new URL(url);
  try {
    // A single connection, because the engine's migration lock belongs to a connection.
    const migrations = await migrate(postgresqlAdapterFactory(url, 1), POSTGRESQL_FOLDER, pending);
    const client = new PostgresqlClient({ adapter: postgresqlAdapterFactory(url), errorFormat: 'minimal' });
    // Both clients come from the same models. They differ only in PostgreSQL features that we do not use.
    return { db: client as unknown as Db, migrations };
  } catch (error) {
    if (error instanceof PlainError) throw error;
    // Never print the whole URL: it contains the password.
    throw new PlainError(
      `The database ${pathname.slice(1)} at ${host} cannot be opened: ${explainPostgresql(error)}`,
    );
  }
}

function explainSqlite(error: unknown): string {
  const { message, code } = driverError(error);
  if (message.includes('file is not a database') || message.includes('malformed')) {
    return 'the file is damaged or is not a SQLite database. Restore a backup, or choose another file in DATABASE_URL.';
  }
  if (code?.startsWith('SQLITE_BUSY')) {
    return 'another process has locked it. Wait for that process to finish, then try again.';
  }
  if (code === 'SQLITE_CANTOPEN' || code === 'EACCES' || code === 'EROFS' || message.includes('readonly')) {
    return 'the folder or the file is not writable. Fix its permissions, or choose another file in DATABASE_URL.';
  }
  return `${sentence(message.replaceAll('\n', ' '))} Fix that, or choose another file in DATABASE_URL.`;
}

function explainPostgresql(error: unknown): string {
  const kind = isDriverAdapterError(error) ? error.cause.kind : null;
  switch (kind) {
    case 'ConnectionClosed':
      return 'the server there is not accepting connections at the moment. If it is starting, wait and try again; otherwise check the host and port in DATABASE_URL.';
    case 'DatabaseNotReachable':
    case 'SocketTimeout':
      return 'no server answers there. Start it, or correct the host and port in DATABASE_URL.';
    case 'AuthenticationFailed':
    case 'DatabaseAccessDenied':
      return 'the server rejects the user name or the password. Correct them in DATABASE_URL.';
    case 'DatabaseDoesNotExist':
      return 'the server has no such database. Create it with createdb, or choose another one in DATABASE_URL.';
    default:
      return `${sentence(driverError(error).message.replaceAll('\n', ' '))} Check DATABASE_URL and the server.`;
  }
}

/** The driver's own message: Prisma wraps it and shows only a category. */
function driverError(error: unknown): { message: string; code: string | undefined } {
  if (isDriverAdapterError(error)) {
    const { originalMessage, originalCode } = error.cause;
    return { message: originalMessage ?? error.message, code: originalCode };
  }
  const { message, code } = error as NodeJS.ErrnoException;
  return { message, code };
}
