import Database from 'better-sqlite3';
import { describe, expect, onTestFinished, test, vi } from 'vitest';

import { databasePath, openDatabase } from '../src/db/open.ts';
import { inTransaction, isBusyOrUnreachable } from '../src/db/transaction.ts';
import type { Db } from '../src/db/transaction.ts';
import { createGaps } from '../src/db/write-lock.ts';
import { until } from './support/process.ts';
import { newDatabase, START } from './support/server.ts';
import { noteConnections } from './support/sqlite-connections.ts';

async function open(waitMs?: number): Promise<{ db: Db; other: Database.Database }> {
  const databaseUrl = await newDatabase();
  const { db } = await openDatabase(databaseUrl, waitMs);
  const other = new Database(databasePath(databaseUrl), { timeout: 0 });
  onTestFinished(async () => {
    other.close();
    await db.$disconnect();
  });
  return { db, other };
}

test('every connection enforces foreign keys, uses WAL, and commits durably', async () => {
  const { db } = await open();
  const pragmas = async (client: Pick<Db, '$queryRaw'>) => [
    await client.$queryRaw`PRAGMA foreign_keys`,
    await client.$queryRaw`PRAGMA journal_mode`,
    await client.$queryRaw`PRAGMA synchronous`,
  ];
  const wanted = [[{ foreign_keys: 1n }], [{ journal_mode: 'wal' }], [{ synchronous: 2n }]];
  expect(await pragmas(db)).toEqual(wanted);
  expect(await inTransaction(db, START, pragmas)).toEqual(wanted);
});

test("a transaction blocks other processes' writes from its first statement", async () => {
  const { db, other } = await open();
  await inTransaction(db, START, async (tx) => {
    await tx.setting.findMany();
    expect(() => other.exec('BEGIN IMMEDIATE')).toThrow('locked');
  });
  other.exec('BEGIN IMMEDIATE; ROLLBACK');
});

test('transactions of one process run one after the other, from their first read on', async () => {
  const { db } = await open();
  await db.setting.create({ data: { key: 'counter', value: '0' } });
  await Promise.all(
    Array.from({ length: 25 }, () =>
      inTransaction(db, START, async (tx) => {
        const { value } = await tx.setting.findUniqueOrThrow({ where: { key: 'counter' } });
        await tx.setting.update({ where: { key: 'counter' }, data: { value: String(Number(value) + 1) } });
      }),
    ),
  );
  expect(await db.setting.findUnique({ where: { key: 'counter' } })).toMatchObject({ value: '25' });
});

describe('while another process holds the write lock', () => {
  const write = (db: Db, key: string): Promise<unknown> =>
    inTransaction(db, START, (tx) => tx.setting.create({ data: { key, value: 'x' } }));

  test('a transaction waits for the write lock without blocking the event loop', async () => {
    const connections = noteConnections();
    const { db, other } = await open();
    await write(db, 'first');
    const spies = (await connections()).map((connection) => vi.spyOn(connection, 'executeRaw'));
    const attempts = (): number =>
      spies.flatMap(({ mock }) => mock.calls).filter(([{ sql }]) => sql === 'BEGIN IMMEDIATE').length;

    other.exec('BEGIN IMMEDIATE');
    const written = write(db, 'after');
    // The same event loop releases the lock; if waiting blocked it, that would never happen.
    await until(() => Promise.resolve(attempts() > 1 || undefined));
    other.exec(`INSERT INTO "Setting" VALUES ('before', 'x'); COMMIT`);
    await written;
    expect(await db.setting.findMany({ orderBy: { key: 'asc' } })).toMatchObject([
      { key: 'after' },
      { key: 'before' },
      { key: 'first' },
    ]);
  });

  test('a transaction that has waited too long is refused and does not block the next one', async () => {
    const { db, other } = await open(0);
    other.exec('BEGIN IMMEDIATE');
    const error: unknown = await write(db, 'refused').catch((thrown: unknown) => thrown);
    expect(isBusyOrUnreachable(error)).toBe(true);
    other.exec('COMMIT');
    await write(db, 'taken');
    expect(await db.setting.findMany()).toMatchObject([{ key: 'taken' }]);
  });
});

describe('a process that has held the write lock for long', () => {
  /**
   * Holds the lock for 150 ms in all, in as many transactions as there are pauses.
   *
   * @param pausesMs one after each transaction
   * @returns whether the process ever waited before the next transaction
   */
  async function isGapLeft(pausesMs: number[]): Promise<boolean> {
    let ms = 0;
    let isLeft = false;
    const gaps = createGaps(() => ms);
    for (const pauseMs of pausesMs) {
      const release = gaps.start();
      ms += 150 / pausesMs.length;
      release();
      ms += pauseMs;
      const others = setTimeout(() => (isLeft = true), 1);
      await gaps.leaveGap();
      clearTimeout(others);
    }
    return isLeft;
  }

  test('a process that has held the write lock for long leaves a gap before taking it again', async () => {
    expect(await isGapLeft([0])).toBe(true);
  });

  test('many pauses that are too short for others to notice are no gap', async () => {
    expect(await isGapLeft(Array<number>(15).fill(1))).toBe(true);
  });

  test('a process does not pause when there was a gap anyway', async () => {
    expect(await isGapLeft([300])).toBe(false);
  });
});

test('a database that another process has locked cannot be opened, and the error says why', async () => {
  const databaseUrl = await newDatabase();
  const other = new Database(databasePath(databaseUrl));
  onTestFinished(() => void other.close());
  other.exec('PRAGMA locking_mode = EXCLUSIVE; BEGIN IMMEDIATE; COMMIT');
  await expect(openDatabase(databaseUrl, 0)).rejects.toThrow(
    /cannot be opened: another process has locked it\. Wait for that process to finish, then try again\.$/,
  );
});
