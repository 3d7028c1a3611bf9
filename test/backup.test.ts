import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { open, readdir, readFile, stat, writeFile } from 'node:fs/promises';
import type { FileHandle } from 'node:fs/promises';
import { dirname, join } from 'node:path';

import Database from 'better-sqlite3';
import { describe, expect, onTestFinished, test, vi } from 'vitest';

import { readConfig } from '../src/config.ts';
import { databasePath, openDatabase } from '../src/db/open.ts';
import { backup } from '../src/operator/backup.ts';
import { doctor } from '../src/operator/doctor.ts';
import { commandContext } from './support/command-context.ts';
import { emptyFolder, runCli, runCliProcess, until } from './support/process.ts';
import { refusalOf } from './support/refusal.ts';
import { deliverAll, newDatabase, signUp, startTestServer } from './support/server.ts';
import type { TestServer } from './support/server.ts';
import { buyer } from './support/stripe-events.ts';

const backupOf = (databaseUrl: string, file: string) =>
  backup(readConfig({ DATABASE_URL: databaseUrl }), file);

/**
 * Writes to a database until it is closed, as another server would: two rows in each transaction, and a millisecond
 * between transactions in which the other writer gets the lock (SQLite gives it to whoever asks next, not to whoever
 * has waited longest).
 */
const WRITER = `
  const [path, name] = process.argv.slice(1);
  const database = new (require('better-sqlite3'))(path, { timeout: 60_000 });
  const never = new Int32Array(new SharedArrayBuffer(4));
  database.pragma('synchronous = OFF');
  const event = database.prepare(
    \`INSERT INTO "Event" ("id", "type", "created", "receivedAt", "status", "reason")
     VALUES (?, 'x', '2027-01-10T09:00:00.000+00:00', '2027-01-10T09:00:00.000+00:00', 'ignored', 'x')\`,
  );
  const setting = database.prepare('INSERT INTO "Setting" ("key", "value") VALUES (?, 1)');
  const commit = database.transaction((n) => (event.run(name + n), setting.run(name + n)));
  for (let n = 1; ; n += 1) (commit.immediate(n), Atomics.wait(never, 0, 0, 1));
`;

async function startWriter(databaseUrl: string, name: string): Promise<void> {
  const writer = spawn(process.execPath, ['-e', WRITER, databasePath(databaseUrl), name], {
    cwd: join(import.meta.dirname, '..'),
    stdio: ['ignore', 'ignore', 'inherit'],
  });
  onTestFinished(async () => {
    if (writer.exitCode !== null) throw new Error(`The writer ${name} exited unexpectedly.`);
    writer.kill('SIGKILL');
    await once(writer, 'exit');
  });
  await until(async () => ((await writtenBy(databaseUrl, name)).length > 0 ? true : undefined));
}

/** The numbers of a writer's transactions that are in a table, in ascending order. */
function writtenBy(databaseUrl: string, name: string, table = 'Event', key = 'id'): Promise<number[]> {
  const database = new Database(databasePath(databaseUrl), { readonly: true });
  const rows = database
    .prepare<[string], string>(
      `SELECT "${key}" FROM "${table}" WHERE "${key}" LIKE ? || '%' ORDER BY length("${key}"), "${key}"`,
    )
    .pluck()
    .all(name);
  database.close();
  return Promise.resolve(rows.map((id) => Number(id.slice(name.length))));
}

/** A server with a conversion, and a database that takes many steps to copy when it is copied step by step. */
async function largeServer(): Promise<TestServer> {
  const server = await startTestServer();
  const referrer = await signUp(server, 'referrer@example.com');
  const friend = await signUp(server, 'friend@example.com', referrer.code);
  const stripe = buyer(friend.id);
  await deliverAll(server, [stripe.checkoutCompleted(), stripe.created()]);
  await server.db.event.create({
    data: {
      id: 'large',
      type: 'x',
      created: server.clock.now,
      receivedAt: server.clock.now,
      status: 'ignored',
      reason: 'x',
      payload: 'x'.repeat(16 * 1024 * 1024),
    },
  });
  return server;
}

test('a backup finishes while others keep writing, and holds everything up to one transaction and nothing after it', async () => {
  const server = await largeServer();
  await startWriter(server.databaseUrl, 'one_');
  await startWriter(server.databaseUrl, 'two_');
  const before = await writtenBy(server.databaseUrl, 'one_');
  const folder = await emptyFolder();
  const path = join(folder, 'copy.db');
  const { code, stdout, stderr } = await runCliProcess(['backup', path, '--json'], {
    DATABASE_URL: server.databaseUrl,
  });
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' });

  expect(await readdir(folder)).toEqual(['copy.db']);
  const copy = `file:${path}`;
  for (const name of ['one_', 'two_']) {
    const written = await writtenBy(copy, name);
    expect(written).toEqual(written.map((_, index) => index + 1));
    expect(await writtenBy(copy, name, 'Setting', 'key')).toEqual(written);
  }
  const copied = (await writtenBy(copy, 'one_')).length;
  expect(copied).toBeGreaterThanOrEqual(before.length);
  await until(async () => ((await writtenBy(server.databaseUrl, 'one_')).length > copied ? true : undefined));

  const { size, mode } = await stat(path);
  expect(mode & 0o777).toBe(0o600);
  const { db } = await openDatabase(copy);
  onTestFinished(() => db.$disconnect());
  expect(JSON.parse(stdout)).toEqual({ path, bytes: size, users: 2, events: await db.event.count() });
  expect((await doctor(commandContext({ db, clock: server.clock }))).json).toMatchObject({ findings: [] });
  expect(await db.creditEntry.count({ where: { kind: 'grant' } })).toBe(2);
});

test('backup prints where the file is, how large it is and what it holds', async () => {
  const databaseUrl = await newDatabase();
  const path = join(await emptyFolder(), 'copy.db');
  const { text } = await backupOf(databaseUrl, path);
  expect(text).toBe(`The backup is in ${path}: ${(await stat(path)).size} bytes, 0 users, 0 events.`);
});

/** Makes the file system refuse to flush a folder to disk. */
async function refuseFolderSync(code: string): Promise<void> {
  const handle = await open(import.meta.filename);
  const prototype = Object.getPrototypeOf(handle) as FileHandle;
  await handle.close();
  vi.spyOn(prototype, 'sync').mockImplementation(async function (this: FileHandle) {
    if ((await this.stat()).isDirectory()) throw Object.assign(new Error(code), { code });
    await this.datasync();
  });
}

test.each(['EACCES', 'EINVAL', 'ENOTSUP'])(
  'a backup is complete even where folders cannot be flushed to disk (%s)',
  async (code) => {
    const databaseUrl = await newDatabase();
    const path = join(await emptyFolder(), 'copy.db');
    await refuseFolderSync(code);
    expect((await backupOf(databaseUrl, path)).text).toContain(`The backup is in ${path}: `);
    expect(await readdir(dirname(path))).toEqual(['copy.db']);
  },
);

test("backing up an older version's database copies it unchanged", async () => {
  const databaseUrl = await newDatabase();
  const database = new Database(databasePath(databaseUrl));
  onTestFinished(() => {
    database.close();
  });
  const removed = database.prepare(
    `DELETE FROM "_prisma_migrations" WHERE "migration_name" LIKE '%money_back'`,
  );
  expect(removed.run().changes).toBe(1);
  const path = join(await emptyFolder(), 'copy.db');
  expect((await runCli(['backup', path], { DATABASE_URL: databaseUrl })).code).toBe(0);
  const copy = new Database(path, { readonly: true });
  const names = 'SELECT "migration_name" FROM "_prisma_migrations"';
  expect(copy.prepare(names).pluck().all()).toEqual(database.prepare(names).pluck().all());
  copy.close();
});

describe('a backup is refused and leaves no file behind', () => {
  const refusal = (databaseUrl: string, file: string) => refusalOf(backupOf(databaseUrl, file));

  test('as a command, a refused backup prints one line on stderr, or one JSON document, and exits 1', async () => {
    const path = join(await emptyFolder(), 'nowhere', 'copy.db');
    const env = { DATABASE_URL: await newDatabase() };
    const message = `The folder ${dirname(path)} does not exist. Create it, or name a file in another folder.`;
    expect(await runCli(['backup', path], env)).toEqual({ code: 1, stdout: '', stderr: `${message}\n` });
    const asJson = await runCli(['backup', path, '--json'], env);
    expect({ ...asJson, stdout: JSON.parse(asJson.stdout) as unknown }).toEqual({
      code: 1,
      stdout: { error: { code: 'failed', message } },
      stderr: '',
    });
  });

  test('when the file already exists', async () => {
    const path = join(await emptyFolder(), 'copy.db');
    await writeFile(path, 'precious');
    expect(await refusal(await newDatabase(), path)).toBe(
      `${path} already exists, and \`backup\` does not overwrite files. Choose another name.`,
    );
    expect(await readFile(path, 'utf8')).toBe('precious');
    expect(await readdir(dirname(path))).toEqual(['copy.db']);
  });

  test('backup is refused when the folder does not exist', async () => {
    expect(await refusal(await newDatabase(), '/dev/null/copy.db')).toContain(
      'The folder /dev/null does not exist.',
    );
  });

  test('when there is no database, and none is created', async () => {
    const [data, folder] = [await emptyFolder(), await emptyFolder()];
    const source = join(data, 'tandem.db');
    expect(await refusal(`file:${source}`, join(folder, 'copy.db'))).toBe(
      `The database ${source} cannot be read (ENOENT). Correct DATABASE_URL or the file's permissions.`,
    );
    expect([...(await readdir(data)), ...(await readdir(folder))]).toEqual([]);
  });

  test('when its folder cannot be flushed to a disk that fails', async () => {
    const path = join(await emptyFolder(), 'copy.db');
    const databaseUrl = await newDatabase();
    await refuseFolderSync('EIO');
    expect(await refusal(databaseUrl, path)).toContain('could not be written');
    expect(await readdir(dirname(path))).toEqual([]);
  });

  test('the reason is given even where folders cannot be flushed', async () => {
    const data = await emptyFolder();
    const source = join(data, 'tandem.db');
    await writeFile(source, 'x'.repeat(10_000));
    await refuseFolderSync('EINVAL');
    expect(await refusal(`file:${source}`, join(await emptyFolder(), 'copy.db'))).toMatch(
      /^The database is damaged: /,
    );
  });

  test('when the file is not a database', async () => {
    const [data, folder] = [await emptyFolder(), await emptyFolder()];
    const source = join(data, 'tandem.db');
    await writeFile(source, 'x'.repeat(10_000));
    expect(await refusal(`file:${source}`, join(folder, 'copy.db'))).toMatch(
      /^The database is damaged: .* No backup was made\. Keep your older backups\.$/,
    );
    expect(await readdir(folder)).toEqual([]);
  });

  test('backup is refused when an index of the database is damaged', async () => {
    const databaseUrl = await newDatabase();
    const database = new Database(databasePath(databaseUrl));
    database.exec(`INSERT INTO "Setting" VALUES ('a', 'x'), ('b', 'x')`);
    const root = database
      .prepare<[], number>(
        `SELECT "rootpage" FROM "sqlite_schema" WHERE "name" = 'sqlite_autoindex_Setting_1'`,
      )
      .pluck()
      .get();
    const size = database.pragma('page_size', { simple: true }) as number;
    database.close();
    // Overwrites the cell count of the index's page, so that the index looks empty.
    const file = await open(databasePath(databaseUrl), 'r+');
    await file.write(Buffer.from([0, 0]), 0, 2, ((root ?? 0) - 1) * size + 3);
    await file.close();

    const folder = await emptyFolder();
    expect(await refusal(databaseUrl, join(folder, 'copy.db'))).toContain('The database is damaged: ');
    expect(await readdir(folder)).toEqual([]);
  });

  test('when a row refers to one that does not exist', async () => {
    const databaseUrl = await newDatabase();
    const database = new Database(databasePath(databaseUrl));
    database.exec(`PRAGMA foreign_keys = OFF; INSERT INTO "FormerAddress" VALUES ('nobody', 'x')`);
    database.close();
    const folder = await emptyFolder();
    expect(await refusal(databaseUrl, join(folder, 'copy.db'))).toContain(
      'The database is damaged: a row of FormerAddress refers to a row of User that does not exist.',
    );
    expect(await readdir(folder)).toEqual([]);
  });

  test('backup is refused for PostgreSQL without connecting to it, and points to pg_dump', async () => {
    const path = join(await emptyFolder(), 'copy.dump');
    expect(await refusal('postgresql://nobody:secret@127.0.0.1:1/tandem', path)).toBe(
      `The database is PostgreSQL. Back it up with its own tool: pg_dump --format=custom --file='${path}' followed by the value of DATABASE_URL.`,
    );
  });
});
