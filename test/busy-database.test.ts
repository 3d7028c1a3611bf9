import { join } from 'node:path';

import { describe, expect, inject, onTestFinished, test } from 'vitest';

import { createUser } from '../src/accounts/sign-up.ts';
import { openDatabase } from '../src/db/open.ts';
import { inSnapshot, inTransaction } from '../src/db/transaction.ts';
import type { Db } from '../src/db/transaction.ts';
import { examine } from '../src/operator/doctor.ts';
import { keepBusy, otherConnection } from './support/other-connection.ts';
import { emptyFolder, runCli, runServer } from './support/process.ts';
import { DAY, newDatabase, SESSION_SECRET, signedPost, START, WEBHOOK_SECRET } from './support/server.ts';
import { buyer, stripeEvent } from './support/stripe-events.ts';

const onPostgresql = inject('engine') === 'postgresql';

/** How often each command runs. */
const ROUNDS = 2;
const OLD_EVENTS = 1_000;
const CONNECTIONS = 16;

async function open(databaseUrl: string): Promise<Db> {
  const { db } = await openDatabase(databaseUrl);
  onTestFinished(() => db.$disconnect());
  return db;
}

const account = (db: Db, name: string) =>
  inTransaction(db, new Date(), (tx) => createUser(tx, `${name}@example.com`, 'no password'));

/** Events with payloads that are old enough to be thinned. */
async function addOldEvents(db: Db, count: number): Promise<void> {
  const receivedAt = new Date(Date.now() - 365 * DAY * 1000);
  const data = Array.from({ length: count }, (_, n) => {
    const { id, type, ...rest } = stripeEvent('product.created', { id: `prod_${n}`, name: 'x'.repeat(2000) });
    const payload = JSON.stringify({ id, type, ...rest });
    return { id, type, created: receivedAt, receivedAt, status: 'ignored', reason: 'unused', payload };
  });
  await db.event.createMany({ data });
}

test(
  'a server under load refuses nothing while commands work beside it, and no command gives up',
  { timeout: 300_000 },
  async () => {
    const databaseUrl = await newDatabase();
    const env = { DATABASE_URL: databaseUrl, SESSION_SECRET, STRIPE_WEBHOOK_SECRET: WEBHOOK_SECRET };
    const db = await open(databaseUrl);
    for (let n = 0; n < 20; n += 1) await account(db, `user${n}`);
    await addOldEvents(db, OLD_EVENTS);
    const server = await runServer(env);
    const folder = await emptyFolder();

    async function post(event: object): Promise<number> {
      const answer = await fetch(`${server.url}/api/stripe/webhook`, signedPost(event));
      await answer.text();
      return answer.status;
    }

    let working = true;
    const statuses = new Map<number, number>();
    async function keepPosting(): Promise<void> {
      while (working) {
        const status = await post(buyer().created());
        statuses.set(status, (statuses.get(status) ?? 0) + 1);
      }
    }
    const load = Promise.all(Array.from({ length: CONNECTIONS }, keepPosting));

    async function rounds(command: (round: number) => string[]): Promise<string[]> {
      const failures: string[] = [];
      for (let round = 0; round < ROUNDS; round += 1) {
        const { code, stderr } = await runCli(command(round), env);
        if (code !== 0) failures.push(`${command(round).join(' ')}: ${code ?? 'killed'} ${stderr}`);
      }
      return failures;
    }
    const failures = await Promise.all([
      rounds(() => ['doctor']),
      rounds(() => ['prune']),
      rounds(() => ['grant-credit', 'user0@example.com', '10']),
      onPostgresql ? [] : rounds((round) => ['backup', join(folder, `${round}.db`)]),
    ]);
    working = false;
    await load;

    expect(failures.flat()).toEqual([]);
    expect([...statuses.keys()]).toEqual([200]);
    expect(await db.event.count({ where: { status: 'applied' } })).toBe(statuses.get(200));
    expect(await db.event.count({ where: { thinned: true } })).toBe(OLD_EVENTS);
    const granted = await db.creditEntry.aggregate({ _sum: { seconds: true } });
    expect(granted._sum.seconds).toBe(ROUNDS * 10 * DAY);
  },
);

describe('a snapshot', () => {
  const setting = { key: 'key', value: 'before' };

  test('a snapshot sees one moment, does not wait for writers and does not hold them up', async () => {
    const databaseUrl = await newDatabase();
    const db = await open(databaseUrl);
    await inTransaction(db, START, (tx) => tx.setting.create({ data: setting }));
    const writer = await otherConnection({ databaseUrl });
    await writer.run(`BEGIN; UPDATE "Setting" SET "value" = 'after'`);

    const seen = await inSnapshot(db, async (snapshot) => {
      const first = await snapshot.setting.findMany();
      await writer.run('COMMIT');
      await inTransaction(db, START, (tx) => tx.setting.create({ data: { key: 'new', value: 'x' } }));
      // Outside the snapshot, a query sees what is committed.
      expect(await db.setting.count()).toBe(2);
      return [first, await snapshot.setting.findMany()];
    });
    expect(seen).toEqual([[setting], [setting]]);
    expect(await db.setting.findUnique({ where: { key: 'key' } })).toMatchObject({ value: 'after' });
  });

  test('a snapshot cannot write', async () => {
    const db = await open(await newDatabase());
    await expect(inSnapshot(db, (snapshot) => snapshot.setting.create({ data: setting }))).rejects.toThrow();
    expect(await db.setting.count()).toBe(0);
  });

  test('doctor reads a snapshot, so it works while another process writes', async () => {
    const databaseUrl = await newDatabase();
    const db = await open(databaseUrl);
    await account(db, 'ann');
    const writer = await keepBusy({ databaseUrl });
    expect(await examine(db, { clawbackDays: 30, now: new Date() })).toEqual([]);
    await writer.lift();
  });
});
