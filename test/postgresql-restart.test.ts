import { expect, onTestFinished, test } from 'vitest';

import { addPeople, expectTakenOnce, purchaseEvents } from './support/many-buyers.ts';
import { startPostgresql } from './support/postgresql-server.ts';
import { runServer, until } from './support/process.ts';
import { SEED, seededRandom } from './support/seeded-random.ts';
import { WEBHOOK_SECRET } from './support/server.ts';
import { startDeliveries } from './support/stripe-deliveries.ts';

const BUYERS = 40;

/** How many events are acknowledged each time before the database goes down. */
const BEFORE = 40;

/** How many are refused before it comes back. */
const REFUSED = 40;

test('a database that is stopped, and then killed, under load: the server survives, refuses what it cannot store, and recovers by itself', async () => {
  const why = `SEED=${SEED}`;
  // Unlike the tests' other server, this one flushes to disk as in production.
  const postgresql = await startPostgresql();
  onTestFinished(() => postgresql.stop());
  const people = await addPeople(postgresql.url, BUYERS);
  const purchases = people.map((id, index) => purchaseEvents(seededRandom(`buyer ${index}`), id));
  const server = await runServer({ DATABASE_URL: postgresql.url, STRIPE_WEBHOOK_SECRET: WEBHOOK_SECRET });
  const statusOf = async (path: string): Promise<number> => (await fetch(`${server.url}${path}`)).status;

  const stripe = startDeliveries(`${server.url}/api/stripe/webhook`, purchases, seededRandom('deliveries'));
  const refused = (): number => stripe.answers.get('503 Retry-After') ?? 0;
  for (const signal of ['SIGINT', 'SIGKILL'] as const) {
    await stripe.reach(stripe.acknowledged.size + BEFORE);
    await postgresql.goDown(signal);
    const before = refused();
    await until(() => Promise.resolve(refused() >= before + REFUSED || undefined));
    expect(await statusOf('/readyz'), why).toBe(503);
    expect(await statusOf('/healthz'), why).toBe(200);

    await postgresql.comeUp();
    await until(async () => ((await statusOf('/readyz')) === 200 ? true : undefined));
  }
  await stripe.done;
  expect(await server.stop(), why).toBe(0);
  expect(server.output.stderr, why).toBe('');

  expect(stripe.surprises, why).toEqual([]);
  expect([...stripe.answers.keys()].sort(), why).toEqual(['200', '503 Retry-After']);
  await expectTakenOnce(postgresql.url, purchases, why);
}, 300_000);
