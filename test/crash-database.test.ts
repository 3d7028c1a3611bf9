import { expect, onTestFinished, test } from 'vitest';

import { addPeople, expectAppliedOnce, purchaseEvents } from './support/many-buyers.ts';
import { asAdministrator, databaseOn } from './support/postgresql-databases.ts';
import { startPostgresql } from './support/postgresql-server.ts';
import { runServer, until } from './support/process.ts';
import { SEED, seededRandom } from './support/seeded-random.ts';
import { WEBHOOK_SECRET } from './support/server.ts';
import { startDeliveries } from './support/stripe-deliveries.ts';

const BUYERS = 60;

/** How PostgreSQL goes down, alternately: a clean stop and a kill. */
const ENDS = ['SIGINT', 'SIGKILL', 'SIGINT', 'SIGKILL'] as const;

/** It goes down after at most this many further acknowledgements. */
const MAX_ACKNOWLEDGED = 30;

/** How many are refused before it comes back. */
const REFUSED = 40;

test('PostgreSQL goes down and comes back under load: the server answers 503 meanwhile, and loses nothing', async () => {
  const why = `SEED=${SEED}`;
  const draw = seededRandom('ends');
  // It flushes to disk here, as in production.
  const postgresql = await startPostgresql();
  onTestFinished(() => postgresql.stop());
  await asAdministrator(postgresql.url, 'CREATE DATABASE tandem');
  const databaseUrl = databaseOn(postgresql.url, 'tandem');
  const people = await addPeople(databaseUrl, BUYERS);
  const purchases = people.map((id, index) => purchaseEvents(seededRandom(`buyer ${index}`), id));

  const server = await runServer({ DATABASE_URL: databaseUrl, STRIPE_WEBHOOK_SECRET: WEBHOOK_SECRET });
  const stripe = startDeliveries(`${server.url}/api/stripe/webhook`, purchases, seededRandom('deliveries'));
  const status = async (path: string): Promise<number> => (await fetch(`${server.url}${path}`)).status;
  const refused = (): number => stripe.answers.get('503 Retry-After') ?? 0;

  for (const signal of ENDS) {
    await stripe.reach(stripe.acknowledged.size + 1 + draw(MAX_ACKNOWLEDGED));
    const before = refused();
    await postgresql.goDown(signal);
    expect(await status('/readyz'), why).toBe(503);
    expect(await status('/healthz'), why).toBe(200);
    await until(() => Promise.resolve(refused() >= before + REFUSED || undefined));
    await postgresql.comeUp();
    await until(async () => ((await status('/readyz')) === 200 ? true : undefined));
  }
  await stripe.done;
  expect(await server.stop(), why).toBe(0);
  expect(server.output.stderr, why).toBe('');
  expect(stripe.surprises, why).toEqual([]);
  // No connection to the server broke, and no event was recorded as failed.
  expect([...stripe.answers.keys()].sort(), why).toEqual(['200', '503 Retry-After']);
  await expectAppliedOnce(databaseUrl, purchases, why);
}, 300_000);
