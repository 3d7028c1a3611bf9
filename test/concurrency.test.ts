import { expect, onTestFinished, test } from 'vitest';

import { createUser } from '../src/accounts/sign-up.ts';
import type { User } from '../src/db/generated/client.ts';
import { openDatabase } from '../src/db/open.ts';
import { inTransaction } from '../src/db/transaction.ts';
import type { Db } from '../src/db/transaction.ts';
import { examine } from '../src/operator/doctor.ts';
import { captureReferral } from '../src/referrals/capture.ts';
import { fetchPatiently, runCliProcess, runServer } from './support/process.ts';
import { DAY, newDatabase, SESSION_SECRET, signedPost, userRow, WEBHOOK_SECRET } from './support/server.ts';
import { buyer } from './support/stripe-events.ts';

const BUYERS = 200;

/** Chains of eight people. */
const CHAINS = 10;

/** Users whose link and subscription arrive at once. */
const LINKS = 40;

/** Two server processes on one database, and a database client for the test. */
async function twoServers() {
  const databaseUrl = await newDatabase();
  const env = { DATABASE_URL: databaseUrl, SESSION_SECRET, STRIPE_WEBHOOK_SECRET: WEBHOOK_SECRET };
  const servers = await Promise.all([runServer(env), runServer(env)]);
  const { db } = await openDatabase(databaseUrl);
  onTestFinished(() => db.$disconnect());

  /** Delivers to one of the servers, again while it is busy. */
  async function deliver(event: object, which: number): Promise<unknown> {
    const webhook = `${servers[which % 2]?.url ?? ''}/api/stripe/webhook`;
    const answer = await fetchPatiently(webhook, signedPost(event));
    const body: unknown = await answer.json();
    expect(answer.status, JSON.stringify(body)).toBe(200);
    return body;
  }

  /** Sends events to both servers alternately, all at once. */
  const deliverAtOnce = (events: readonly object[]): Promise<unknown[]> =>
    Promise.all(events.map((event, index) => deliver(event, index)));

  return { db, env, deliver, deliverAtOnce };
}

/** Makes an account, referred when a friend's code is given. */
function account(db: Db, name: string, friend?: User): Promise<User> {
  return inTransaction(db, new Date(), async (tx) => {
    const user = await createUser(tx, `${name}@example.com`, 'no password');
    await captureReferral(tx, user, friend?.code ?? null);
    return user;
  });
}

async function expectHealthy(db: Db): Promise<void> {
  expect(await examine(db, { clawbackDays: 30, now: new Date(Date.now() + DAY * 1000) })).toEqual([]);
}

test('the same events sent to two servers at once are each applied once (design: rule 5)', async () => {
  const { db, deliver, deliverAtOnce } = await twoServers();
  const referrer = await account(db, 'referrer');
  const friends = await Promise.all(
    Array.from({ length: 10 }, (_, n) => account(db, `friend${n}`, referrer)),
  );
  const purchases = friends.map(({ id }) => buyer(id));
  await deliverAtOnce(purchases.map((purchase) => purchase.checkoutCompleted()));

  for (const purchase of purchases) {
    const event = purchase.created();
    const answers = await Promise.all([0, 1, 0, 1, 0, 1].map((which) => deliver(event, which)));
    const statuses = answers.map((answer) => (answer as { status: string }).status).sort();
    expect(statuses).toEqual(['duplicate', 'duplicate', 'duplicate', 'duplicate', 'duplicate', 'ok']);
  }
  const grants = await db.creditEntry.groupBy({
    by: ['userId'],
    where: { kind: 'grant' },
    _sum: { seconds: true },
  });
  const given = new Map(grants.map(({ userId, _sum }) => [userId, _sum.seconds]));
  for (const { id } of friends) expect(given.get(id)).toBe(45 * DAY);
  expect(given.get(referrer.id)).toBe(10 * 45 * DAY);
  await expectHealthy(db);
});

test(
  `${BUYERS} buyers of one referrer convert at once while an operator grants days: the sum is exact`,
  { timeout: 180_000 },
  async () => {
    const { db, env, deliverAtOnce } = await twoServers();
    const referrer = await account(db, 'referrer');
    const friends: User[] = [];
    for (let n = 0; n < BUYERS; n += 1) friends.push(await account(db, `friend${n}`, referrer));
    const purchases = friends.map(({ id }) => buyer(id));
    await deliverAtOnce(purchases.map((purchase) => purchase.checkoutCompleted()));

    const before = Date.now();
    const [grants] = await Promise.all([
      Promise.all(
        [7, 11].map((days) => runCliProcess(['grant-credit', 'referrer@example.com', String(days)], env)),
      ),
      deliverAtOnce(purchases.map((purchase) => purchase.created())),
    ]);
    expect(grants.map(({ code, stderr }) => ({ code, stderr }))).toEqual([
      { code: 0, stderr: '' },
      { code: 0, stderr: '' },
    ]);

    const { creditUntil, creditEntries } = await userRow({ db }, referrer.id);
    expect(creditEntries).toHaveLength(BUYERS + 2);
    // The days run from the first grant on: all later grants stack on what is left.
    const first = creditEntries[0]?.at.getTime() ?? 0;
    expect(first).toBeGreaterThanOrEqual(before - 1000);
    expect(creditUntil?.getTime()).toBe(first + (BUYERS * 45 + 7 + 11) * DAY * 1000);
    for (const friend of friends) {
      expect(await userRow({ db }, friend.id)).toMatchObject({ tier: 'paid' });
    }
    expect(await db.referral.count({ where: { convertedAt: { not: null } } })).toBe(BUYERS);
    await expectHealthy(db);
  },
);

test('buyers who invited one another in a chain all convert at once', async () => {
  const { db, deliverAtOnce } = await twoServers();
  const chains: User[][] = [];
  for (let chain = 0; chain < CHAINS; chain += 1) {
    const people = [await account(db, `first${chain}`)];
    for (let n = 1; n < 8; n += 1) people.push(await account(db, `person${chain}-${n}`, people.at(-1)));
    chains.push(people);
  }
  const purchases = chains.flat().map(({ id }) => buyer(id));
  await deliverAtOnce(purchases.map((purchase) => purchase.checkoutCompleted()));
  await deliverAtOnce(purchases.map((purchase) => purchase.created()));

  for (const people of chains) {
    for (const [n, person] of people.entries()) {
      const { creditEntries, tier } = await userRow({ db }, person.id);
      expect(tier).toBe('paid');
      // Everybody but the first was invited, and everybody but the last is a referrer.
      const grants = Number(n > 0) + Number(n < people.length - 1);
      expect(creditEntries.filter(({ kind }) => kind === 'grant')).toHaveLength(grants);
    }
  }
  await expectHealthy(db);
});

test('linking a customer and storing their subscription on two servers at once never leaves a paying user free', async () => {
  const { db, deliver } = await twoServers();
  const friends = await Promise.all(Array.from({ length: LINKS }, (_, n) => account(db, `friend${n}`)));
  await Promise.all(
    friends.map(async ({ id }, n) => {
      const purchase = buyer(id);
      await Promise.all([deliver(purchase.checkoutCompleted(), n), deliver(purchase.created(), n + 1)]);
    }),
  );
  expect(await db.user.count({ where: { tier: 'paid' } })).toBe(LINKS);
  await expectHealthy(db);
});
