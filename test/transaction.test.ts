import Database from 'better-sqlite3';
import { expect, onTestFinished, test } from 'vitest';

import { openDatabase } from '../src/db/open.ts';
import { inTransaction } from '../src/db/transaction.ts';
import type { Db } from '../src/db/transaction.ts';
import { newDatabase, START } from './support/server.ts';

async function open(): Promise<{ db: Db; path: string }> {
  const url = await newDatabase();
  const { db } = await openDatabase(url);
  onTestFinished(() => db.$disconnect());
  return { db, path: url.replace('file:', '') };
}

const keep = <T>(value: T): T => value;
const setting = (key: string) => ({ data: { key, value: 'x' } });

test('a query outside an open transaction neither sees it nor is undone with it', async () => {
  const { db } = await open();
  const outside: Promise<unknown>[] = [];
  const rolledBack = inTransaction(db, START, async (tx) => {
    await tx.setting.create(setting('inside'));
    // Prisma starts a query with its first then().
    outside.push(db.setting.findMany().then(keep), db.setting.create(setting('outside')).then(keep));
    await tx.setting.create(setting('inside too'));
    throw new Error('undo');
  });
  await expect(rolledBack).rejects.toThrow('undo');
  const [seen] = await Promise.all(outside);
  expect(seen).toEqual([]);
  expect(await db.setting.findMany()).toEqual([setting('outside').data]);
});

test('transactions of one process run one after the other', async () => {
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

test('a COMMIT that fails leaves no transaction open: what is committed after it stays', async () => {
  const { db, path } = await open();
  const refused = inTransaction(db, START, async (tx) => {
    await tx.$executeRaw`PRAGMA defer_foreign_keys = ON`;
    await tx.setting.create(setting('lost'));
    await tx.session.create({ data: { tokenHash: 't', userId: 'nobody', expiresAt: START } });
  });
  await expect(refused).rejects.toThrow();
  await inTransaction(db, START, (tx) => tx.setting.create(setting('kept')));

  const other = new Database(path, { readonly: true });
  expect(other.prepare('SELECT "key" FROM "Setting"').all()).toEqual([{ key: 'kept' }]);
  expect(other.prepare('SELECT count(*) AS n FROM "Session"').get()).toEqual({ n: 0 });
});

test('a transaction holds off the writer of another process from its first statement on', async () => {
  const { db, path } = await open();
  const other = new Database(path, { timeout: 0 });
  await inTransaction(db, START, async (tx) => {
    await tx.setting.findMany();
    expect(() => other.exec('BEGIN IMMEDIATE')).toThrow('locked');
  });
  other.exec('BEGIN IMMEDIATE; ROLLBACK');
});

test('the one instant of a transaction is cut to whole seconds', async () => {
  const { db } = await open();
  const now = await inTransaction(db, new Date('2027-01-10T09:00:00.999Z'), (tx) => Promise.resolve(tx.now));
  expect(now).toEqual(START);
});
