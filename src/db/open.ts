import { mkdir } from 'node:fs/promises';
import { dirname } from 'node:path';

import { isDriverAdapterError } from '@prisma/driver-adapter-utils';

import { PlainError } from '../plain-error.ts';
import { PrismaClient } from './generated/client.ts';
import { migrate } from './migrate.ts';
import { sqliteAdapterFactory } from './sqlite-adapter.ts';
import type { Db } from './transaction.ts';

/**
 * Opens the database, making its folder and file when there are none, and brings it to this code's schema.
 *
 * @param url `file:` and a path, relative to the working directory or absolute
 * @returns the client, and the names of the migrations applied now
 * @throws PlainError when the path cannot be written, the file is no database, or its schema is newer than ours
 */
export async function openDatabase(url: string): Promise<{ db: Db; migrations: string[] }> {
  const path = databasePath(url);
  const adapterFactory = sqliteAdapterFactory(path);
  try {
    // What lies in it is personal: a folder made here is its owner's alone.
    await mkdir(dirname(path), { recursive: true, mode: 0o700 });
    const migrations = await migrate(adapterFactory);
    return { db: new PrismaClient({ adapter: adapterFactory, errorFormat: 'minimal' }), migrations };
  } catch (error) {
    if (error instanceof PlainError) throw error;
    throw new PlainError(`The database ${path} cannot be opened: ${explain(error)}`);
  }
}

/**
 * @param url `file:` and a path
 * @returns the path of the database file; what belongs to it lies beside it
 */
export function databasePath(url: string): string {
  return url.replace(/^file:/, '');
}

function explain(error: unknown): string {
  const { message, code } = sqliteError(error);
  if (message.includes('file is not a database') || message.includes('malformed')) {
    return 'the file is damaged, or is no SQLite database. Restore a backup, or name another file in DATABASE_URL.';
  }
  if (code === 'SQLITE_CANTOPEN' || code === 'EACCES' || message.includes('readonly')) {
    return 'the folder or the file cannot be written. Mend its permissions, or name another file in DATABASE_URL.';
  }
  return `${message.replaceAll('\n', ' ')}. Name another file in DATABASE_URL.`;
}

/** The driver's own words: Prisma wraps them, and tells only a category of its own. */
function sqliteError(error: unknown): { message: string; code: string | undefined } {
  if (isDriverAdapterError(error)) {
    const { originalMessage, originalCode } = error.cause;
    return { message: originalMessage ?? error.message, code: originalCode };
  }
  const { message, code } = error as NodeJS.ErrnoException;
  return { message, code };
}
