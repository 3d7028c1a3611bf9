import { randomUUID } from 'node:crypto';
import { access, constants, link, lstat, open, rm, writeFile } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';

import Database from 'better-sqlite3';

import type { Config } from '../config.ts';
import { COMMAND_WAIT_MS, databasePath, isPostgresql } from '../db/open.ts';
import { nativeModuleProblem } from '../native-module.ts';
import { ownerOnly } from '../owner-only.ts';
import { PlainError } from '../plain-error.ts';
import type { CommandResult } from './command.ts';

/**
 * All pages in one step. SQLite starts a copy anew when another process writes between two of its steps: step by step,
 * it would never end while servers write. One step reads one state of the database, and in WAL mode no writer waits for
 * it; what waits is this process, which has nothing else to do. https://www.sqlite.org/backup.html
 */
const ALL_PAGES = 0x7fffffff;

interface Counts {
  users: number;
  events: number;
}

interface Made extends Counts {
  bytes: number;
}

/**
 * `backup`: copies the SQLite database into one file while servers write to it. The copy is checked and on disk before
 * the file has its name; a file that is there is never overwritten. The database is not brought up to date first: a
 * backup before an upgrade is one of the older version.
 *
 * @param config the configuration
 * @param file where to; relative to the working directory
 * @returns what to print
 * @throws PlainError when it cannot be done: then nothing is left of it
 */
export async function backup({ databaseUrl }: Config, file: string): Promise<CommandResult> {
  if (isPostgresql(databaseUrl)) {
    throw new PlainError(
      `The database is PostgreSQL, and its own tool makes the backup: pg_dump --format=custom --file='${file}' "$DATABASE_URL"`,
    );
  }
  const source = databasePath(databaseUrl);
  const path = resolve(file);
  try {
    await access(source, constants.R_OK).catch((error: unknown) => {
      throw cannotRead(source, error);
    });
    // As every start does. Where this user may not, a backup is worth more.
    await ownerOnly(source).catch(() => undefined);
    return tell(path, await makeBackup(source, path));
  } catch (error) {
    throw explain(error, path);
  }
}

async function makeBackup(source: string, path: string): Promise<Made> {
  // Before the work, so that it is not in vain; at its end the link decides.
  if (await isThere(path)) throw alreadyThere(path);
  const unfinished = `${path}.${randomUUID()}.unfinished`;
  // SQLite keeps the mode of a file that it finds.
  await writeFile(unfinished, '', { flag: 'wx', mode: 0o600 });
  try {
    await copy(source, unfinished);
    const counts = checkAndClose(unfinished);
    const bytes = await toDisk(unfinished);
    // Unlike a rename, a link does not overwrite what appeared there meanwhile.
    await link(unfinished, path);
    return { bytes, ...counts };
  } finally {
    for (const end of ['', '-journal', '-wal', '-shm']) await rm(unfinished + end, { force: true });
    await toDisk(dirname(path));
  }
}

async function isThere(path: string): Promise<boolean> {
  try {
    await lstat(path);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return false;
    throw error;
  }
}

async function copy(source: string, path: string): Promise<void> {
  const database = new Database(source, {
    readonly: true,
    fileMustExist: true,
    timeout: COMMAND_WAIT_MS,
  });
  try {
    await database.backup(path, { progress: () => ALL_PAGES });
  } finally {
    database.close();
  }
}

function checkAndClose(path: string): Counts {
  const database = new Database(path);
  try {
    // The copy says that it is in WAL mode, as the database does: out of it, this one file is all of the backup.
    database.pragma('journal_mode = DELETE');
    const damage = database.pragma('integrity_check', { simple: true });
    if (damage !== 'ok') throw damaged(String(damage));
    const [loose] = database.pragma('foreign_key_check') as { table: string; parent: string }[];
    if (loose) throw damaged(`a row of ${loose.table} points at one of ${loose.parent} that is not there`);
    const rows = (table: string) =>
      database.prepare<[], number>(`SELECT count(*) FROM "${table}"`).pluck().get() ?? 0;
    return { users: rows('User'), events: rows('Event') };
  } finally {
    database.close();
  }
}

/** Waits until a file, or the names in a folder, survive a power cut; its size in bytes. */
async function toDisk(path: string): Promise<number> {
  const handle = await open(path);
  try {
    await handle.sync();
    return (await handle.stat()).size;
  } finally {
    await handle.close();
  }
}

function tell(path: string, made: Made): CommandResult {
  const { bytes, users, events } = made;
  const text = `The backup is in ${path}: ${bytes} bytes, ${users} users, ${events} events.`;
  return { text, json: { path, ...made } };
}

function damaged(how: string): PlainError {
  return new PlainError(
    `The database is damaged: ${how.replaceAll('\n', ' ')}. No backup was made: keep the older ones.`,
  );
}

function alreadyThere(path: string): PlainError {
  return new PlainError(`${path} is there already, and is not overwritten. Name another file.`);
}

function cannotRead(source: string, error: unknown): PlainError {
  const { code = '' } = error as NodeJS.ErrnoException;
  return new PlainError(
    `The database ${source} cannot be read (${code}). Mend DATABASE_URL, or its permissions.`,
  );
}

function explain(error: unknown, path: string): unknown {
  const native = nativeModuleProblem(error);
  if (native) return native;
  const { code = '', message } = error as NodeJS.ErrnoException;
  const folder = dirname(path);
  switch (code) {
    case 'EEXIST':
      return alreadyThere(path);
    case 'ENOENT':
    case 'ENOTDIR':
      return new PlainError(`There is no folder ${folder}. Make it, or name a file in another one.`);
    case 'ENOSPC':
    case 'EDQUOT':
    case 'SQLITE_FULL':
      return new PlainError(
        `There is no room for the backup in ${folder}. Make some, or name another folder.`,
      );
    case 'SQLITE_CORRUPT':
    case 'SQLITE_NOTADB':
      return damaged(message);
  }
  if (code.startsWith('SQLITE_')) return new PlainError(`The backup failed: ${message} (${code}).`);
  // What is left are the file system's own: EACCES, EPERM, EROFS …
  if (code)
    return new PlainError(`The folder ${folder} cannot be written (${code}). Name a file in another one.`);
  return error;
}
