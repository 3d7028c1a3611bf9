import { randomUUID } from 'node:crypto';
import { access, constants, link, lstat, open, rm, writeFile } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';

import Database from 'better-sqlite3';

import type { Config } from '../config.ts';
import { COMMAND_WAIT_MS, databasePath, isPostgresql } from '../db/open.ts';
import { nativeModuleProblem } from '../native-module.ts';
import { ownerOnly } from '../owner-only.ts';
import { PlainError } from '../plain-error.ts';
import { counted } from '../wording.ts';
import type { CommandResult } from './command.ts';

/**
 * Copy all pages in one step. SQLite restarts a copy when another process writes between two steps, so it would never
 * finish under load. A single step reads one state of the database; in WAL mode it blocks no writer.
 * https://www.sqlite.org/backup.html
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
 * `backup`: copies the SQLite database into one file while servers write to it. The copy is checked and flushed to
 * disk before it gets its final name, and never overwrites a file. Migrations are not applied first, so that a backup
 * before an upgrade has the older schema.
 *
 * @param file relative to the working directory
 * @throws PlainError when it fails; nothing is left behind then
 */
export async function backup({ databaseUrl }: Config, file: string): Promise<CommandResult> {
  if (isPostgresql(databaseUrl)) {
    throw new PlainError(
      `The database is PostgreSQL. Back it up with its own tool: pg_dump --format=custom --file='${file}' followed by the value of DATABASE_URL.`,
    );
  }
  const source = databasePath(databaseUrl);
  const path = resolve(file);
  try {
    await access(source, constants.R_OK).catch((error: unknown) => {
      throw cannotRead(source, error);
    });
    // Every start does this too. If this user may not change the file's mode, make the backup anyway.
    await ownerOnly(source).catch(() => undefined);
    return summarise(path, await makeBackup(source, path));
  } catch (error) {
    throw explain(error, path);
  }
}

async function makeBackup(source: string, path: string): Promise<Made> {
  // Check early, to save the work; the link at the end is what decides.
  if (await exists(path)) throw alreadyExists(path);
  const unfinished = `${path}.${randomUUID()}.unfinished`;
  // SQLite keeps the mode of an existing file.
  await writeFile(unfinished, '', { flag: 'wx', mode: 0o600 });
  try {
    await copy(source, unfinished);
    const counts = checkAndClose(unfinished);
    const bytes = await toDisk(unfinished);
    // Unlike rename, link does not overwrite a file that appeared meanwhile.
    await link(unfinished, path);
    try {
      await folderToDisk(dirname(path));
    } catch (error) {
      await rm(path, { force: true });
      throw error;
    }
    return { bytes, ...counts };
  } finally {
    for (const end of ['', '-journal', '-wal', '-shm']) await rm(unfinished + end, { force: true });
  }
}

async function exists(path: string): Promise<boolean> {
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
    // The copy is marked as WAL, like the original. Leaving WAL mode puts the whole backup into this one file.
    database.pragma('journal_mode = DELETE');
    const damage = database.pragma('integrity_check', { simple: true });
    if (damage !== 'ok') throw damaged(String(damage));
    const [loose] = database.pragma('foreign_key_check') as { table: string; parent: string }[];
    if (loose)
      throw damaged(`a row of ${loose.table} refers to a row of ${loose.parent} that does not exist`);
    const rows = (table: string) =>
      database.prepare<[], number>(`SELECT count(*) FROM "${table}"`).pluck().get() ?? 0;
    return { users: rows('User'), events: rows('Event') };
  } finally {
    database.close();
  }
}

/** Flushes a folder to disk, so that the names of its files survive a power cut. */
async function folderToDisk(path: string): Promise<void> {
  try {
    await toDisk(path);
  } catch (error) {
    // The folder may not be read, or its file system does not flush folders. The backup itself is complete.
    const { code = '' } = error as NodeJS.ErrnoException;
    if (!['EACCES', 'EINVAL', 'ENOTSUP'].includes(code)) throw error;
  }
}

/** Flushes a file or folder to disk; returns its size in bytes. */
async function toDisk(path: string): Promise<number> {
  const handle = await open(path);
  try {
    await handle.sync();
    return (await handle.stat()).size;
  } finally {
    await handle.close();
  }
}

function summarise(path: string, made: Made): CommandResult {
  const { bytes, users, events } = made;
  const text = `The backup is in ${path}: ${bytes} bytes, ${counted(users, 'user')}, ${counted(events, 'event')}.`;
  return { text, json: { path, ...made } };
}

function damaged(how: string): PlainError {
  return new PlainError(
    `The database is damaged: ${how.replaceAll('\n', ' ')}. No backup was made. Keep your older backups.`,
  );
}

function alreadyExists(path: string): PlainError {
  return new PlainError(
    `${path} already exists, and \`backup\` does not overwrite files. Choose another name.`,
  );
}

/** @param error of a file system call */
export function cannotRead(source: string, error: unknown): PlainError {
  const { code = '' } = error as NodeJS.ErrnoException;
  return new PlainError(
    `The database ${source} cannot be read (${code}). Correct DATABASE_URL or the file's permissions.`,
  );
}

function explain(error: unknown, path: string): unknown {
  const native = nativeModuleProblem(error);
  if (native) return native;
  const { code = '', message } = error as NodeJS.ErrnoException;
  const folder = dirname(path);
  switch (code) {
    case 'EEXIST':
      return alreadyExists(path);
    case 'ENOENT':
    case 'ENOTDIR':
      return new PlainError(
        `The folder ${folder} does not exist. Create it, or name a file in another folder.`,
      );
    case 'ENOSPC':
    case 'EDQUOT':
    case 'SQLITE_FULL':
      return new PlainError(
        `There is not enough space for the backup in ${folder}. Free some space, or name another folder.`,
      );
    case 'SQLITE_CORRUPT':
    case 'SQLITE_NOTADB':
      return damaged(message);
  }
  if (code.startsWith('SQLITE_BUSY'))
    return new PlainError(
      `The backup failed because another process is using the database (${code}). Try again.`,
    );
  if (code.startsWith('SQLITE_')) {
    return new PlainError(
      `The backup failed: ${message} (${code}). Check the disk and the permissions of the database and of ${folder}, then try again.`,
    );
  }
  // File system errors: EACCES, EROFS, ENAMETOOLONG, or EPERM where there are no hard links.
  if (code)
    return new PlainError(
      `The backup could not be written to ${folder} (${code}). Choose another file or folder.`,
    );
  return error;
}
