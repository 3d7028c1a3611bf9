import Database from 'better-sqlite3';
import { expect, onTestFinished, test } from 'vitest';

import { databasePath, openDatabase } from '../src/db/open.ts';
import { inTransaction } from '../src/db/transaction.ts';
import type { Db } from '../src/db/transaction.ts';
import { newDatabase, START } from './support/server.ts';

async function open(): Promise<{ db: Db; other: Database.Database }> {
  const databaseUrl = await newDatabase();
  const { db } = await openDatabase(databaseUrl);
  const other = new Database(databasePath(databaseUrl), { timeout: 0 });
  onTestFinished(async () => {
    other.close();
    await db.$disconnect();
  });
  return { db, other };
}

test('every connection keeps foreign keys, WAL, and commits that survive power loss', async () => {
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

test('a transaction holds off the writer of another process from its first statement on', async () => {
  const { db, other } = await open();
  await inTransaction(db, START, async (tx) => {
    await tx.setting.findMany();
    expect(() => other.exec('BEGIN IMMEDIATE')).toThrow('locked');
  });
  other.exec('BEGIN IMMEDIATE; ROLLBACK');
});

test('transactions of one process run one after the other, whatever they read', async () => {
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
