import { chmod, copyFile, mkdir, readdir, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import Database from 'better-sqlite3';
import { beforeEach, describe, expect, onTestFinished, test } from 'vitest';

import { readConfig } from '../src/config.ts';
import { databasePath, openDatabase } from '../src/db/open.ts';
import { backup } from '../src/operator/backup.ts';
import { startServer } from '../src/start.ts';
import { freePort } from './support/free-port.ts';
import { emptyFolder } from './support/process.ts';
import { newDatabase, SESSION_SECRET } from './support/server.ts';

const OWNER_ONLY = '600';

/** The most permissive umask: nothing is private unless we make it so. */
beforeEach(() => {
  const before = process.umask(0);
  onTestFinished(() => void process.umask(before));
});

/** An existing folder that everybody may read. */
async function openFolder(): Promise<string> {
  const folder = await emptyFolder();
  await chmod(folder, 0o755);
  return folder;
}

async function modeOf(path: string): Promise<string> {
  return ((await stat(path)).mode & 0o777).toString(8);
}

/** The mode of every file in a folder. */
async function modes(folder: string): Promise<Record<string, string>> {
  const all: Record<string, string> = {};
  for (const name of (await readdir(folder)).sort()) all[name] = await modeOf(join(folder, name));
  return all;
}

async function openIn(folder: string): Promise<void> {
  const { db } = await openDatabase(`file:${join(folder, 'tandem.db')}`);
  onTestFinished(() => db.$disconnect());
  await db.$transaction((tx) => tx.setting.create({ data: { key: 'a', value: 'x' } }));
}

async function start(folder: string): Promise<void> {
  const server = await startServer(
    {
      PORT: String(await freePort()),
      LOG_LEVEL: 'silent',
      DATABASE_URL: `file:${join(folder, 'tandem.db')}`,
    },
    () => new Date(),
  );
  onTestFinished(server.close);
}

describe('whatever the umask, only their owner can read', () => {
  test('a new database, its WAL and its shared memory, in an existing folder', async () => {
    const folder = await openFolder();
    await openIn(folder);
    expect(await modes(folder)).toEqual({
      'tandem.db': OWNER_ONLY,
      'tandem.db-shm': OWNER_ONLY,
      'tandem.db-wal': OWNER_ONLY,
    });
    expect(await modeOf(folder)).toBe('755');
  });

  test('database files that others could read before, even while another process has them open', async () => {
    const folder = await openFolder();
    const path = join(folder, 'tandem.db');
    await copyFile(databasePath(await newDatabase()), path);
    await chmod(path, 0o644);
    const other = new Database(path);
    onTestFinished(() => void other.close());
    other.exec(`PRAGMA journal_mode = WAL; INSERT INTO "Setting" VALUES ('b', 'x')`);
    expect(Object.values(await modes(folder))).toEqual(['644', '644', '644']);
    await openIn(folder);
    expect(Object.values(await modes(folder))).toEqual([OWNER_ONLY, OWNER_ONLY, OWNER_ONLY]);
  });

  test('the folder that we create, and everything that a first start puts there', async () => {
    const folder = join(await openFolder(), 'a', 'b');
    await start(folder);
    expect(await modeOf(folder)).toBe('700');
    expect(await modeOf(join(folder, '..'))).toBe('700');
    const made = await modes(folder);
    expect(Object.keys(made)).toContain('session-secret');
    expect(new Set(Object.values(made))).toEqual(new Set([OWNER_ONLY]));
  });

  test('a session secret that others could read before', async () => {
    const folder = await openFolder();
    await writeFile(join(folder, 'session-secret'), SESSION_SECRET, { mode: 0o644 });
    await start(folder);
    expect(await modeOf(join(folder, 'session-secret'))).toBe(OWNER_ONLY);
  });

  test('a backup, and the database that it is made from', async () => {
    const folder = await openFolder();
    const databaseUrl = await newDatabase();
    const source = databasePath(databaseUrl);
    await chmod(source, 0o644);
    await backup(readConfig({ DATABASE_URL: databaseUrl }), join(folder, 'today.db'));
    expect(await modes(folder)).toEqual({ 'today.db': OWNER_ONLY });
    expect(await modeOf(source)).toBe(OWNER_ONLY);
  });

  test('the state of the sandbox, and the folder that it creates', async () => {
    const { loadState, saveState } = await import('../src/sandbox/state.ts');
    const folder = join(await openFolder(), 'data');
    saveState(loadState(undefined), join(folder, 'sandbox.json'));
    expect(await modeOf(folder)).toBe('700');
    expect(await modes(folder)).toEqual({ 'sandbox.json': OWNER_ONLY });
  });
});

test('an existing folder keeps its mode', async () => {
  const folder = join(await openFolder(), 'data');
  await mkdir(folder, { mode: 0o750 });
  await openIn(folder);
  expect(await modeOf(folder)).toBe('750');
});
