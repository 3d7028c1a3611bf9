import { execFile } from 'node:child_process';
import { stat } from 'node:fs/promises';
import { promisify } from 'node:util';

import { describe, expect, test } from 'vitest';

import { databasePath } from '../src/db/open.ts';
import { addPeople, expectAppliedOnce, purchaseEvents } from './support/many-buyers.ts';
import type { StripeEvent } from './support/many-buyers.ts';
import { fetchPatiently, runServer, until } from './support/process.ts';
import type { RunningServer } from './support/process.ts';
import { SEED, seededRandom } from './support/seeded-random.ts';
import {
  domainRows,
  newDatabase,
  PASSWORD,
  signedPost,
  startTestServer,
  WEBHOOK_SECRET,
} from './support/server.ts';
import { startDeliveries } from './support/stripe-deliveries.ts';
import { buyer } from './support/stripe-events.ts';

const run = promisify(execFile);

const MIB = 1024 * 1024;

/** How often the disk fills up under load and has room again. */
const TIMES = 10;
const BUYERS = 60;

/** It fills up after at most this many further acknowledgements, and has room again after this many refusals. */
const MAX_ACKNOWLEDGED = 20;
const REFUSED = 20;

/** The largest limit that still stops a file, bytes. */
const MAX_LIMIT = 200_000;

/**
 * Caps the size of the process's files, bytes, so that SQLite finds the disk full. Needs no privileges, and can be
 * lifted again.
 */
async function limitFiles({ child }: RunningServer, limit: number | 'unlimited'): Promise<void> {
  await run('prlimit', ['--pid', String(child.pid), `--fsize=${limit}:`]);
}

function runOn(databaseUrl: string): Promise<RunningServer> {
  return runServer({ DATABASE_URL: databaseUrl, STRIPE_WEBHOOK_SECRET: WEBHOOK_SECRET });
}

async function walSize(databaseUrl: string): Promise<number> {
  return (await stat(`${databasePath(databaseUrl)}-wal`)).size;
}

async function post(server: RunningServer, event: StripeEvent): Promise<number> {
  return (await fetchPatiently(`${server.url}/api/stripe/webhook`, signedPost(event))).status;
}

/** An event of an unknown customer, this many bytes long. */
function largeEvent(bytes: number): StripeEvent {
  return buyer().created({ metadata: { note: 'x'.repeat(bytes) } }, { at: new Date() });
}

describe('a full disk', () => {
  test('a full disk refuses events and changes nothing, and once there is room the same events are applied', async () => {
    const databaseUrl = await newDatabase();
    const [, id = ''] = await addPeople(databaseUrl, 2);
    const server = await runOn(databaseUrl);
    const events = purchaseEvents(seededRandom('one buyer'), id);
    const [first, ...rest] = events;
    if (!first) throw new Error('There is no event.');
    expect(await post(server, first)).toBe(200);
    const reader = await startTestServer({ DATABASE_URL: databaseUrl });
    const before = await domainRows(reader);

    await limitFiles(server, await walSize(databaseUrl));
    // First one event at a time, refused by COMMIT; then more together than SQLite's cache holds, refused before
    // COMMIT.
    for (const event of rest) expect(await post(server, event)).toBe(500);
    const together = Array.from({ length: 8 }, () => largeEvent(MIB - 10_000));
    expect(new Set(await Promise.all(together.map((event) => post(server, event))))).toEqual(new Set([500]));
    expect(await domainRows(reader)).toEqual(before);
    expect(await reader.db.event.count()).toBe(1);
    expect((await fetch(`${server.url}/healthz`)).status).toBe(200);
    expect(await post(server, first)).toBe(200);
    const form = new URLSearchParams({ email: 'new@example.com', password: PASSWORD });
    const headers = { origin: server.url };
    const signUp = await fetch(`${server.url}/signup`, { method: 'POST', body: form, headers });
    expect(signUp.status).toBe(500);
    await until(() => Promise.resolve(/a request failed/.test(server.output.stdout) || undefined));
    expect(server.output.stdout).toMatch(
      /database or disk is full.*a request failed|disk I\/O error.*a request failed/,
    );

    await limitFiles(server, 'unlimited');
    for (const event of [...rest, ...together]) expect(await post(server, event)).toBe(200);
    expect(await server.stop()).toBe(0);
    await reader.stop();
    await expectAppliedOnce(databaseUrl, [events, together], `SEED=${SEED}`);
  });

  test(`${TIMES} times under load: nothing that was acknowledged is lost`, async () => {
    const why = `SEED=${SEED}`;
    const draw = seededRandom('limits');
    const databaseUrl = await newDatabase();
    const people = await addPeople(databaseUrl, BUYERS);
    const purchases = people.map((id, index) => purchaseEvents(seededRandom(`buyer ${index}`), id));
    const server = await runOn(databaseUrl);
    const stripe = startDeliveries(`${server.url}/api/stripe/webhook`, purchases, seededRandom('deliveries'));
    const refused = (): number => stripe.answers.get('500') ?? 0;
    for (let times = 0; times < TIMES; times += 1) {
      await stripe.reach(stripe.acknowledged.size + 1 + draw(MAX_ACKNOWLEDGED));
      const before = refused();
      // The write-ahead log is larger than the limit, or soon will be: SQLite cannot reuse it while the database cannot
      // grow.
      await limitFiles(server, draw(MAX_LIMIT));
      await until(() => Promise.resolve(refused() > before + REFUSED || undefined));
      await limitFiles(server, 'unlimited');
    }
    await stripe.done;
    expect(await server.stop(), why).toBe(0);
    expect(server.output.stderr, why).toBe('');
    expect(stripe.surprises, why).toEqual([]);
    expect([...stripe.answers.keys()], why).not.toContain('none');
    await expectAppliedOnce(databaseUrl, purchases, why);
  });
});

test('the write-ahead log is reused, and does not grow with what is written', async () => {
  const databaseUrl = await newDatabase();
  const server = await runOn(databaseUrl);
  let written = 0;
  while (written < 40 * MIB) {
    const events = Array.from({ length: 8 }, () => largeEvent(MIB / 2));
    const readers = Array.from({ length: 8 }, () => fetch(`${server.url}/readyz`));
    for (const status of await Promise.all(events.map((event) => post(server, event))))
      expect(status).toBe(200);
    await Promise.all(readers);
    written += events.length * (MIB / 2);
  }
  expect(await walSize(databaseUrl)).toBeLessThan(20 * MIB);
});
