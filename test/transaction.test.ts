import { expect, onTestFinished, test } from 'vitest';

import { lockUser } from '../src/db/lock-user.ts';
import { openDatabase } from '../src/db/open.ts';
import { inTransaction } from '../src/db/transaction.ts';
import type { Db } from '../src/db/transaction.ts';
import { otherConnection } from './support/other-connection.ts';
import { newDatabase, START } from './support/server.ts';

async function open(): Promise<{ db: Db; databaseUrl: string }> {
  const databaseUrl = await newDatabase();
  const { db } = await openDatabase(databaseUrl);
  onTestFinished(() => db.$disconnect());
  return { db, databaseUrl };
}

const setting = (key: string) => ({ data: { key, value: 'x' } });

test('a query outside an open transaction neither sees its changes nor is rolled back with it', async () => {
  const { db } = await open();
  const outside: Promise<unknown>[] = [];
  const rolledBack = inTransaction(db, START, async (tx) => {
    await tx.setting.create(setting('inside'));
    // Prisma starts a query with its first then().
    const looking = db.setting.findMany().then(async (seen) => {
      await db.setting.create(setting('outside'));
      return seen;
    });
    outside.push(looking);
    await tx.setting.create(setting('inside too'));
    throw new Error('undo');
  });
  await expect(rolledBack).rejects.toThrow('undo');
  expect(await Promise.all(outside)).toEqual([[]]);
  expect(await db.setting.findMany()).toEqual([setting('outside').data]);
});

test('transactions that lock the same user run one after the other', async () => {
  const { db } = await open();
  const id = 'somebody';
  await db.user.create({
    data: {
      id,
      email: 'a@example.com',
      emailHash: 'a',
      passwordHash: 'none',
      code: '0',
      tier: 'free',
      creditEntryCount: 0,
      createdAt: START,
    },
  });
  await Promise.all(
    Array.from({ length: 25 }, () =>
      inTransaction(db, START, async (tx) => {
        const { code } = (await lockUser(tx, id)) ?? { code: '' };
        await tx.user.update({ where: { id }, data: { code: String(Number(code) + 1) } });
      }),
    ),
  );
  expect(await db.user.findUnique({ where: { id } })).toMatchObject({ code: '25' });
});

test('after a COMMIT fails, no transaction stays open, and later commits persist', async () => {
  const { db, databaseUrl } = await open();
  const refused = inTransaction(db, START, async (tx) => {
    await tx.setting.create(setting('lost'));
    // A deferred foreign key: only COMMIT finds the violation.
    await tx.invoice.create({ data: { id: 'in_1', subscriptionId: 'nowhere' } });
  });
  await expect(refused).rejects.toThrow();
  await inTransaction(db, START, (tx) => tx.setting.create(setting('kept')));

  const { rows } = await otherConnection({ databaseUrl });
  expect(await rows('SELECT "key" FROM "Setting"')).toEqual([{ key: 'kept' }]);
  expect(await rows('SELECT "id" FROM "Invoice"')).toEqual([]);
});

test("a transaction's one instant is cut to whole seconds", async () => {
  const { db } = await open();
  const now = await inTransaction(db, new Date('2027-01-10T09:00:00.999Z'), (tx) => Promise.resolve(tx.now));
  expect(now).toEqual(START);
});
