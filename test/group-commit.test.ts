import { readFileSync } from 'node:fs';

import { expect, test } from 'vitest';

import { databasePath } from '../src/db/open.ts';
import { signedPost, startTestServer } from './support/server.ts';

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
