import { readFileSync } from 'node:fs';

import { expect, onTestFinished, test, vi } from 'vitest';

import { databasePath, openDatabase } from '../src/db/open.ts';
import { inTransaction } from '../src/db/transaction.ts';
import { newDatabase, signedPost, START, startTestServer } from './support/server.ts';

const EVENTS = 48;

const event = (id: string) => ({ id, type: 'product.created', data: { object: { id: 'prod_1' } } });

/**
 * A WAL frame that ends a transaction holds the size of the database.
 * https://www.sqlite.org/fileformat.html#the_wal_file_format
 */
function countCommits(databaseUrl: string): number {
  const wal = readFileSync(`${databasePath(databaseUrl)}-wal`);
  const frameBytes = 24 + wal.readUInt32BE(8);
  let commits = 0;
  for (let at = 32; at < wal.length; at += frameBytes) if (wal.readUInt32BE(at + 4) > 0) commits += 1;
  return commits;
}

test('simultaneous events over many connections share flushes to disk', async () => {
  const { app, db, clock, databaseUrl } = await startTestServer();
  const address = await app.listen();

  const send = async (id: string): Promise<number> =>
    (await fetch(`${address}/api/stripe/webhook`, signedPost(event(id), clock.now))).status;
  const sendAtOnce = (round: string): Promise<number[]> =>
    Promise.all(Array.from({ length: EVENTS }, (_, index) => send(`evt_${round}_${index}`)));

  // The first events wait for modules to load and connections to open, and would share a flush for that reason.
  await sendAtOnce('first');
  const before = countCommits(databaseUrl);
  await send('evt_alone');
  const answers = await sendAtOnce('second');

  expect(answers).toEqual(Array(EVENTS).fill(200));
  expect(await db.event.count()).toBe(2 * EVENTS + 1);
  expect(countCommits(databaseUrl) - before).toBeLessThan(EVENTS / 2);
});

test.each([
  ['short', 0.1, 1],
  ['long', 6, 8],
])(
  'writes of a group that are %s: the event loop gets a turn after some 5 ms of work',
  async (_what, ms, turns) => {
    const { db } = await openDatabase(await newDatabase());
    onTestFinished(() => db.$disconnect());
    let now = 0;
    vi.spyOn(performance, 'now').mockImplementation(() => now);
    let turn = 0;
    const count = (): void => {
      turn += 1;
      counting = setImmediate(count);
    };
    let counting = setImmediate(count);
    onTestFinished(() => {
      clearImmediate(counting);
    });
    const turnsOfWork = await Promise.all(
      Array.from({ length: 8 }, (_, n) =>
        inTransaction(db, START, async (tx) => {
          await tx.setting.create({ data: { key: String(n), value: 'x' } });
          now += ms;
          return turn;
        }),
      ),
    );
    expect(new Set(turnsOfWork).size).toBe(turns);
  },
);
