import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { setImmediate as nextTurn } from 'node:timers/promises';

import { describe, expect, inject, onTestFinished, test } from 'vitest';

import { openDatabase } from '../src/db/open.ts';
import { inTransaction, isUnreachable } from '../src/db/transaction.ts';
import type { Db, Tx } from '../src/db/transaction.ts';
import { freePort } from './support/free-port.ts';
import { impatient, otherConnection } from './support/other-connection.ts';
import type { OtherConnection } from './support/other-connection.ts';
import { until } from './support/process.ts';
import { newDatabase, newEmptyDatabase, START } from './support/server.ts';

const MIGRATIONS = join(import.meta.dirname, '../prisma/postgresql/migrations');

/** More than the size of the connection pool. */
const MANY = 12;

async function open(): Promise<{ db: Db; other: OtherConnection }> {
  const databaseUrl = await newDatabase();
  const { db } = await openDatabase(impatient(databaseUrl));
  onTestFinished(() => db.$disconnect());
  return { db, other: await otherConnection({ databaseUrl }) };
}

const setting = (key: string) => ({ data: { key, value: 'x' } });
const touch = (tx: Tx, key: string) => tx.setting.update({ where: { key }, data: { value: 'touched' } });

describe('a database with other defaults', () => {
  async function openWithDefault(setting: string): Promise<{ db: Db; other: OtherConnection }> {
    const databaseUrl = await newDatabase();
    const name = new URL(databaseUrl).pathname.slice(1);
    const admin = await otherConnection({ databaseUrl });
    await admin.run(`ALTER DATABASE "${name}" SET ${setting}`);
    // Options in the URL would replace options of ours.
    const { db } = await openDatabase(`${databaseUrl}?options=-cstatement_timeout%3D0`);
    onTestFinished(() => db.$disconnect());
    return { db, other: await otherConnection({ databaseUrl }) };
  }

  test('a transaction sees what others committed, even if the default is serializable', async () => {
    const { db, other } = await openWithDefault(`default_transaction_isolation = 'serializable'`);
    await inTransaction(db, START, async (tx) => {
      expect(await tx.setting.count()).toBe(0);
      await other.run(`INSERT INTO "Setting" ("key", "value") VALUES ('new', 'x')`);
      expect(await tx.setting.count()).toBe(1);
    });
  });

  test('dates are read as they were written, even if the default is a German style', async () => {
    const { db } = await openWithDefault(`datestyle = 'German, DMY'`);
    const item = { id: 'one', kind: 'mail.password-changed', data: 'null', status: 'queued' };
    await db.outboxItem.create({ data: { ...item, dueAt: START, createdAt: START } });
    expect(await db.outboxItem.findMany()).toMatchObject([{ dueAt: START, createdAt: START }]);
  });

  test.each([
    ['off', 'on'],
    ['local', 'local'],
  ])('a COMMIT is on disk, even if the default of synchronous_commit is %s', async (given, used) => {
    const { db } = await openWithDefault(`synchronous_commit = ${given}`);
    expect(await db.$queryRaw`SHOW synchronous_commit`).toEqual([{ synchronous_commit: used }]);
  });
});

describe('COMMIT on PostgreSQL', () => {
  test('COMMIT after a failed statement is an error, even when the failure was caught', async () => {
    const { db } = await open();
    const failing = () =>
      inTransaction(db, START, async (tx) => {
        await tx.setting.create(setting('lost'));
        await tx.$executeRaw`SELECT 1 / 0`.catch(() => undefined);
      });
    for (let times = 0; times < MANY; times += 1)
      await expect(failing()).rejects.toThrow('cannot be committed');
    await inTransaction(db, START, (tx) => tx.setting.create(setting('kept')));
    expect(await db.setting.findMany()).toEqual([setting('kept').data]);
  });

  test('a COMMIT that fails releases its connection', async () => {
    const { db } = await open();
    const failing = () =>
      inTransaction(db, START, (tx) =>
        tx.invoice.create({ data: { id: 'in_1', subscriptionId: 'nowhere' } }),
      );
    for (let times = 0; times < MANY; times += 1) await expect(failing()).rejects.toThrow();
    expect(await inTransaction(db, START, (tx) => tx.invoice.count())).toBe(0);
  });
});

describe('a conflict is retried', () => {
  test('a transaction is retried when a lock is not available in time', async () => {
    const { db, other } = await open();
    await db.setting.create(setting('wanted'));
    await other.run(`BEGIN; UPDATE "Setting" SET "value" = 'held'`);
    let tries = 0;
    await inTransaction(db, START, async (tx) => {
      tries += 1;
      if (tries === 3) await other.run('COMMIT');
      await touch(tx, 'wanted');
    });
    expect(tries).toBe(3);
    expect(await db.setting.findMany()).toEqual([{ key: 'wanted', value: 'touched' }]);
  });

  test('a transaction is retried after a deadlock', async () => {
    const databaseUrl = await newDatabase();
    const { db } = await openDatabase(databaseUrl);
    onTestFinished(() => db.$disconnect());
    await db.setting.createMany({ data: [setting('a').data, setting('b').data] });
    let begun = 0;
    let tries = 0;
    const crossing = (first: string, second: string) =>
      inTransaction(db, START, async (tx) => {
        tries += 1;
        await touch(tx, first);
        begun += 1;
        while (begun < 2) await nextTurn();
        await touch(tx, second);
      });
    await Promise.all([crossing('a', 'b'), crossing('b', 'a')]);
    // On a busy machine, the retry can meet the other one again.
    expect(tries).toBeGreaterThanOrEqual(3);
  });
});

describe('a broken connection', () => {
  /** SQL that ends the matching connections and waits for that, 10 s at most. */
  const terminate = (which: string) =>
    `SELECT pg_terminate_backend(pid, 10000) AS ended FROM pg_stat_activity
     WHERE datname = current_database() AND pid <> pg_backend_pid() AND ${which}`;

  test('in the middle of a transaction is reported as such; nothing is committed, and the next one works', async () => {
    const { db, other } = await open();
    const broken = inTransaction(db, START, async (tx) => {
      await tx.setting.create(setting('lost'));
      expect(await other.rows(terminate("state = 'idle in transaction'"))).toEqual([{ ended: true }]);
      await tx.setting.create(setting('lost too'));
    });
    await expect(broken).rejects.toMatchObject({ name: 'PrismaClientKnownRequestError', code: 'P1017' });
    await expect(broken).rejects.toSatisfy(isUnreachable);
    await inTransaction(db, START, (tx) => tx.setting.create(setting('kept')));
    expect(await db.setting.findMany()).toEqual([setting('kept').data]);
  });

  test('just before the COMMIT is reported as such', async () => {
    const { db, other } = await open();
    const broken = inTransaction(db, START, async (tx) => {
      await tx.setting.create(setting('lost'));
      await other.rows(terminate("state = 'idle in transaction'"));
    });
    await expect(broken).rejects.toSatisfy(isUnreachable);
    expect(await db.setting.findMany()).toEqual([]);
  });

  test('while a statement runs is reported as such', async () => {
    const { db, other } = await open();
    const broken = db.$queryRaw`SELECT pg_sleep(30) IS NULL`.catch((error: unknown) => error);
    const sleeping = "state = 'active' AND query LIKE '%pg_sleep(30)%'";
    let ended: unknown[] = [];
    while (ended.length === 0) ended = await other.rows(terminate(sleeping));
    expect(await broken).toSatisfy(isUnreachable);
    expect(await db.setting.findMany()).toEqual([]);
  });

  test('while nobody uses it does no harm', async () => {
    const { db, other } = await open();
    await Promise.all([1, 2, 3].map(() => db.setting.findMany()));
    const ended = await other.rows(terminate("application_name = 'tandem'"));
    expect(ended.length).toBeGreaterThan(0);
    // We may learn of its end only when the next query is sent.
    const next = await db.setting.findMany().catch((error: unknown) => error);
    if (!Array.isArray(next)) expect(next).toMatchObject({ code: 'P1017' });
    expect(await db.setting.findMany()).toEqual([]);
  });
});

describe('a DATABASE_URL that cannot be opened is reported in one line that says why, without the password', () => {
  const PASSWORD = 'pass-in-the-url';

  function changed(change: Partial<Record<'password' | 'port' | 'host' | 'pathname', string>>): string {
    const server = inject('postgresqlServer') ?? '';
    return Object.assign(new URL(server), { password: PASSWORD, ...change }).href;
  }

  async function refusal(url: string): Promise<string> {
    const error: unknown = await openDatabase(url).catch((thrown: unknown) => thrown);
    expect(error).toMatchObject({ name: 'PlainError' });
    const { message } = error as Error;
    expect(message).toMatch(/^The database \S+ at \S+ cannot be opened: [^\n]+$/);
    expect(message).not.toContain(PASSWORD);
    return message;
  }

  test('a wrong password is one line without it', async () => {
    expect(await refusal(changed({}))).toContain('the server rejects the user name or the password.');
  });

  test('no server at the address is one line', async () => {
    expect(await refusal(changed({ port: String(await freePort()) }))).toContain('no server answers there.');
  });

  test('an unknown host is one line', async () => {
    expect(await refusal(changed({ host: 'tandem.invalid' }))).toContain('no server answers there.');
  });

  test('an unknown database is one line', async () => {
    const { password } = new URL(inject('postgresqlServer') ?? '');
    const url = changed({ password, pathname: '/nowhere' });
    const error: unknown = await openDatabase(url).catch((thrown: unknown) => thrown);
    expect(error).toMatchObject({ name: 'PlainError' });
    const { message } = error as Error;
    expect(message).toMatch(
      /^The database nowhere at \S+ cannot be opened: the server has no such database\.[^\n]+$/,
    );
    expect(message).not.toContain(password);
  });
});

test('several servers that migrate an empty database at once all succeed, and each migration is applied once', async () => {
  const names = (await readdir(MIGRATIONS)).filter((name) => !name.endsWith('.toml')).sort();
  for (let times = 0; times < 3; times += 1) {
    const databaseUrl = await newEmptyDatabase();
    const opened = await Promise.all([1, 2, 3].map(() => openDatabase(databaseUrl)));
    await Promise.all(opened.map(({ db }) => db.$disconnect()));
    expect(opened.flatMap(({ migrations }) => migrations).sort()).toEqual(names);
    const { rows } = await otherConnection({ databaseUrl });
    expect(await rows('SELECT migration_name AS name FROM _prisma_migrations ORDER BY 1')).toEqual(
      names.map((name) => ({ name })),
    );
  }
});

test('a server that starts while another one migrates waits for it, and migrations wait for locks', async () => {
  const databaseUrl = impatient(await newEmptyDatabase());
  const [blocker, look] = [await otherConnection({ databaseUrl }), await otherConnection({ databaseUrl })];
  // For the connections that are opened from now on.
  await look.run(`ALTER DATABASE "${new URL(databaseUrl).pathname.slice(1)}" SET statement_timeout = '1s'`);
  // The first migration waits for this table, and has then begun.
  await blocker.run('BEGIN; CREATE TABLE "User" ()');
  /** Resolves when this many connections wait for a lock of the kind, or when a start has failed. */
  const waiting = (kind: string, count: number, ...starts: Promise<unknown>[]) =>
    Promise.race([
      until(async () => {
        const locks = await look.rows(`SELECT 1 FROM pg_locks JOIN pg_stat_activity USING (pid)
          WHERE locktype = '${kind}' AND NOT granted AND datname = current_database()`);
        return locks.length >= count || undefined;
      }),
      Promise.all(starts).then(() => Promise.reject(new Error('nothing waited'))),
    ]);
  const first = openDatabase(databaseUrl);
  await waiting('transactionid', 1, first);
  const second = openDatabase(databaseUrl);
  await waiting('advisory', 1, first, second);
  // Longer than both time limits of these connections.
  await look.run('SELECT pg_sleep(1.1)');
  await blocker.run('ROLLBACK');
  const opened = await Promise.all([first, second]);
  await Promise.all(opened.map(({ db }) => db.$disconnect()));
  expect(opened.map(({ migrations }) => migrations.length > 0)).toEqual([true, false]);
});

test('a migration that was left half done stops the start', async () => {
  const databaseUrl = await newDatabase();
  const { run } = await otherConnection({ databaseUrl });
  await run('UPDATE _prisma_migrations SET finished_at = NULL');
  await expect(openDatabase(databaseUrl)).rejects.toThrow('was started on this database but did not finish');
});
