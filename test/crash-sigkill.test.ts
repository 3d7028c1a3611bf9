import { setTimeout as pause } from 'node:timers/promises';

import { expect, inject, test } from 'vitest';

import { freePort } from './support/free-port.ts';
import { addPeople, expectAppliedOnce, purchaseEvents } from './support/many-buyers.ts';
import { runServer } from './support/process.ts';
import { SEED, seededRandom } from './support/seeded-random.ts';
import { newDatabase, WEBHOOK_SECRET } from './support/server.ts';
import { startDeliveries } from './support/stripe-deliveries.ts';

/** 50 in `npm run test:all`, on both engines together. A start takes longer on PostgreSQL. */
const KILLS = { sqlite: 35, postgresql: 15 }[inject('engine')];

/** More than are delivered before the last kill. */
const BUYERS = 80;

/** A kill comes after at most this many further acknowledgements, and then at most this much later, ms. */
const MAX_ACKNOWLEDGED = 15;
const MAX_DELAY_MS = 20;

test(`a server killed at any moment, ${KILLS} times, loses nothing that it acknowledged and applies nothing twice`, async () => {
  const why = `SEED=${SEED}`;
  const draw = seededRandom('kills');
  const databaseUrl = await newDatabase();
  const people = await addPeople(databaseUrl, BUYERS);
  const purchases = people.map((id, index) => purchaseEvents(seededRandom(`buyer ${index}`), id));
  const port = await freePort();
  const env = { PORT: String(port), DATABASE_URL: databaseUrl, STRIPE_WEBHOOK_SECRET: WEBHOOK_SECRET };

  const webhook = `http://127.0.0.1:${port}/api/stripe/webhook`;
  const stripe = startDeliveries(webhook, purchases, seededRandom('deliveries'));
  let cutOff = 0;
  for (let kills = 0; kills < KILLS; kills += 1) {
    const server = await runServer(env);
    await stripe.reach(stripe.acknowledged.size + 1 + draw(MAX_ACKNOWLEDGED));
    await pause(draw(MAX_DELAY_MS));
    cutOff += stripe.underWay();
    await server.stop('SIGKILL');
    expect(server.output.stderr, why).toBe('');
  }
  const atTheLastKill = stripe.acknowledged.size;
  const last = await runServer(env);
  await stripe.done;
  expect(await last.stop()).toBe(0);

  expect(stripe.surprises, why).toEqual([]);
  // Otherwise nothing was in progress when the kills came.
  expect(cutOff, why).toBeGreaterThan(KILLS);
  expect(atTheLastKill, why).toBeLessThan(stripe.acknowledged.size);
  await expectAppliedOnce(databaseUrl, purchases, why);
}, 900_000);
