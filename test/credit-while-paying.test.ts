import { describe, expect, inject, test } from 'vitest';

import { grantCredit } from '../src/operator/grant-credit.ts';
import { commandContext } from './support/command-context.ts';
import { SEED, seededRandom, shuffled } from './support/seeded-random.ts';
import type { Draw } from './support/seeded-random.ts';
import { creditOf, DAY, daysAfter, deliver, signUp, startTestServer, userRow } from './support/server.ts';
import type { Person } from './support/server.ts';
import {
  deliverWaiting,
  dropWaiting,
  passTime,
  pressUpgrade,
  reconcileWorld,
  sessionIdOf,
  startWorld,
  subscribe,
} from './support/stand-in.ts';
import type { World } from './support/stand-in.ts';
import { buyer, epoch } from './support/stripe-events.ts';
import type { Buyer } from './support/stripe-events.ts';

/** A user with several subscriptions, each of its own customer. */
async function subscriber(count: number) {
  const server = await startTestServer();
  const person = await signUp(server, 'person@example.com');
  const subscriptions = Array.from({ length: count }, () => buyer(person.id));
  const grant = async (day: number, days = 45): Promise<void> => {
    server.clock.now = daysAfter(day);
    await grantCredit(commandContext(server), person.email, days, undefined);
  };
  const hear = async (day: number, ...events: object[]): Promise<void> => {
    server.clock.now = daysAfter(day);
    for (const event of events) expect((await deliver(server, event)).statusCode).toBe(200);
  };
  const credit = () => creditOf(server, person);
  return { server, person, subscriptions: subscriptions as [Buyer, ...Buyer[]], grant, hear, credit };
}

const bought = (stripe: Buyer, day: number) => [
  stripe.checkoutCompleted({}, { at: daysAfter(day) }),
  stripe.created({ created: epoch(daysAfter(day)) }, { at: daysAfter(day) }),
];

const became = (stripe: Buyer, status: string, day: number) =>
  stripe.updated({ status }, { at: daysAfter(day) });

const runsFrom = (day: number, days = 45) => ({ creditUntil: daysAfter(day + days), creditHeldAt: null });

describe('of several subscriptions, the latest end counts', () => {
  test.each([
    ['the earlier end is heard first', false],
    ['the later end is heard first', true],
  ])('two that ended on day 20 and on day 60: credit runs from day 60 when %s', async (_name, swapped) => {
    const { subscriptions, grant, hear, credit } = await subscriber(2);
    const [a, b = buyer()] = subscriptions;
    await hear(0, ...bought(a, 0), ...bought(b, 0));
    await grant(1);
    const ends = [a.ended(daysAfter(20)), b.ended(daysAfter(60))];
    await hear(61, ...(swapped ? ends.reverse() : ends));
    expect(await credit()).toEqual(runsFrom(60));
  });

  test('the end of a subscription that was on trial or never paid for does not count', async () => {
    const { subscriptions, grant, hear, credit } = await subscriber(2);
    const [a, b = buyer()] = subscriptions;
    const trial = { status: 'trialing', trial_end: epoch(daysAfter(30)) };
    await hear(0, ...bought(a, 0), b.checkoutCompleted(), b.created(trial));
    await grant(1);
    await hear(20, b.ended(daysAfter(20), { trial_end: trial.trial_end }));
    await hear(30, a.ended(daysAfter(10)));
    expect(await credit()).toEqual(runsFrom(10));
  });

  test('a subscription counts even if only its payment and its end arrived', async () => {
    const { subscriptions, grant, hear, credit } = await subscriber(2);
    const [a, b = buyer()] = subscriptions;
    await hear(0, ...bought(a, 0), b.checkoutCompleted(), b.invoicePaid());
    await grant(1);
    await hear(61, b.ended(daysAfter(60)), a.ended(daysAfter(20)));
    expect(await credit()).toEqual(runsFrom(60));
  });

  test('the subscriptions of a deleted customer ended when the customer was deleted', async () => {
    for (const swapped of [false, true]) {
      const { subscriptions, grant, hear, credit } = await subscriber(2);
      const [a, b = buyer()] = subscriptions;
      await hear(0, ...bought(a, 0), ...bought(b, 0));
      await grant(1);
      const ends = [a.ended(daysAfter(20)), b.customerDeleted({ at: daysAfter(60) })];
      await hear(61, ...(swapped ? ends.reverse() : ends));
      expect(await credit()).toEqual(runsFrom(60));
    }
  });

  test('a subscription that first arrives after its customer was deleted ended with its customer', async () => {
    const { subscriptions, grant, hear, credit } = await subscriber(2);
    const [a, b = buyer()] = subscriptions;
    await hear(0, ...bought(a, 0));
    await grant(1);
    const [checkout, created] = bought(b, 0) as [object, object];
    await hear(61, checkout, b.customerDeleted({ at: daysAfter(60) }), created, a.ended(daysAfter(20)));
    expect(await credit()).toEqual(runsFrom(60));
  });
});

describe('a subscription ended when it stopped making its user paid', () => {
  test('unpaid on day 45 and cancelled on day 90, both received late: on day 45', async () => {
    const {
      subscriptions: [a],
      grant,
      hear,
      credit,
    } = await subscriber(1);
    await hear(0, ...bought(a, 0));
    await grant(1);
    await hear(95, became(a, 'unpaid', 45), a.ended(daysAfter(90)));
    expect(await credit()).toEqual(runsFrom(45));
  });

  test('the cancellation arrives before the status that ended it, and another one ends later', async () => {
    const { subscriptions, grant, hear, credit } = await subscriber(2);
    const [a, b = buyer()] = subscriptions;
    await hear(0, ...bought(a, 0), ...bought(b, 0));
    await grant(1);
    await hear(95, a.ended(daysAfter(90)), became(a, 'unpaid', 45), b.ended(daysAfter(60)));
    expect(await credit()).toEqual(runsFrom(60));
  });

  test('the first snapshot without a paid tier counts, in any order', async () => {
    const orders = [
      ['unpaid', 'again', 'ended'],
      ['again', 'unpaid', 'ended'],
      ['ended', 'again', 'unpaid'],
      ['again', 'ended', 'unpaid'],
    ] as const;
    for (const order of orders) {
      const { subscriptions, grant, hear, credit } = await subscriber(2);
      const [a, b = buyer()] = subscriptions;
      await hear(0, ...bought(a, 0), ...bought(b, 0));
      await grant(1);
      const events = {
        unpaid: became(a, 'unpaid', 45),
        again: became(a, 'unpaid', 50),
        ended: a.ended(daysAfter(90)),
      };
      await hear(95, ...order.map((key) => events[key]), b.ended(daysAfter(40)));
      expect(await credit(), order.join(', ')).toEqual(runsFrom(45));
    }
  });

  test('a later paid stretch counts: unpaid, active, unpaid', async () => {
    const { subscriptions, grant, hear, credit } = await subscriber(2);
    const [a, b = buyer()] = subscriptions;
    await hear(0, ...bought(a, 0), ...bought(b, 0));
    await grant(1);
    await hear(95, became(a, 'unpaid', 30), became(a, 'active', 40), became(a, 'unpaid', 70));
    await hear(96, b.ended(daysAfter(50)));
    expect(await credit()).toEqual(runsFrom(70));
  });

  test('past due, with a payment that no longer counts: credit runs from when it became past due', async () => {
    const {
      subscriptions: [a],
      grant,
      hear,
      credit,
    } = await subscriber(1);
    await hear(0, ...bought(a, 0));
    await grant(1);
    await hear(31, became(a, 'past_due', 31));
    await hear(40, a.invoicePaid({ amount_paid: 0 }));
    expect(await credit()).toEqual(runsFrom(31));
  });
});

describe('credit is held from when the user began to pay', () => {
  test('credit is held from the start of the subscription, not from when we heard of it', async () => {
    const {
      subscriptions: [a],
      grant,
      hear,
      credit,
    } = await subscriber(1);
    await grant(0, 30);
    await hear(25, ...bought(a, 20));
    expect(await credit()).toEqual({ creditUntil: daysAfter(30), creditHeldAt: daysAfter(20) });
  });

  test('from the first snapshot that said so, though a later one arrived first', async () => {
    const {
      subscriptions: [a],
      grant,
      hear,
      credit,
    } = await subscriber(1);
    await grant(0, 30);
    const [checkout, created] = bought(a, 20) as [object, object];
    await hear(28, a.updated({}, { at: daysAfter(26) }), created, checkout);
    expect(await credit()).toEqual({ creditUntil: daysAfter(30), creditHeldAt: daysAfter(20) });
  });

  test('credit is held from the right start when the customer is linked late, after an earlier subscription ended', async () => {
    const {
      subscriptions: [a],
      person,
      grant,
      hear,
      credit,
    } = await subscriber(1);
    await grant(0, 30);
    const second = { ...buyer(person.id), customer: a.customer };
    const [checkout, created] = bought(a, 5) as [object, object];
    const again = second.created({ customer: a.customer }, { at: daysAfter(20) });
    await hear(25, created, a.ended(daysAfter(10)), again, checkout);
    expect(await credit()).toEqual({ creditUntil: daysAfter(30), creditHeldAt: daysAfter(20) });
  });

  test('credit is never held from before the last ledger entry', async () => {
    const {
      subscriptions: [a],
      grant,
      hear,
      credit,
    } = await subscriber(1);
    await grant(0, 30);
    await grant(22, 10);
    await hear(25, ...bought(a, 20));
    expect(await credit()).toEqual({ creditUntil: daysAfter(40), creditHeldAt: daysAfter(22) });
  });

  test('credit is never held from a time in our future', async () => {
    const {
      subscriptions: [a],
      grant,
      hear,
      credit,
    } = await subscriber(1);
    await grant(0, 30);
    await hear(20, ...bought(a, 21));
    expect(await credit()).toEqual({ creditUntil: daysAfter(30), creditHeldAt: daysAfter(20) });
  });

  test('a past-due subscription whose payment is proven holds credit from that payment', async () => {
    const {
      subscriptions: [a],
      grant,
      hear,
      credit,
    } = await subscriber(1);
    await grant(0, 30);
    const trial = { trial_end: epoch(daysAfter(7)) };
    const money = a.invoicePaid({ billing_reason: 'subscription_cycle' }, { at: daysAfter(10) });
    await hear(8, a.checkoutCompleted(), a.created({ ...trial, status: 'trialing' }));
    await hear(8, a.updated({ ...trial, status: 'past_due' }, { at: daysAfter(8) }));
    await hear(12, money);
    expect(await credit()).toEqual({ creditUntil: daysAfter(30), creditHeldAt: daysAfter(10) });
  });
});

describe('what reconcile fetches from Stripe', () => {
  async function payer() {
    const world = await startWorld();
    const person = await signUp(world, 'person@example.com');
    const subscription = await subscribe(world, person);
    await deliverWaiting(world);
    await grantCredit(commandContext(world), person.email, 45, undefined);
    const credit = () => creditOf(world, person);
    const [customer = ''] = world.sandbox.objects.customers.keys();
    return { world, person, subscription, customer, credit };
  }

  /** Drops all events so far; they are too old for Stripe's event list. */
  async function loseEverything(world: World): Promise<void> {
    await passTime(world, 40 * DAY);
    dropWaiting(world);
  }

  /** Without a renewal in between, whose event would reveal it. */
  async function subscribeForAYear(world: World, person: Person): Promise<void> {
    world.sandbox.acts.pay(sessionIdOf(await pressUpgrade(world, person, 'annual')));
  }

  test('a fetched unpaid subscription names no end: credit runs from the time of the fetch', async () => {
    const { world, subscription, customer, credit } = await payer();
    world.sandbox.acts.setCard(customer, 'declined');
    await passTime(world, 32 * DAY);
    world.sandbox.acts.markUnpaid(subscription);
    await loseEverything(world);
    await reconcileWorld(world);
    expect(await credit()).toEqual(runsFrom(72));
  });

  test('a fetched cancelled subscription names its end: credit runs from then', async () => {
    const { world, subscription, credit } = await payer();
    await passTime(world, 10 * DAY);
    await world.merchant.subscriptions.cancel(subscription);
    await loseEverything(world);
    await reconcileWorld(world);
    expect(await credit()).toEqual(runsFrom(10));
  });

  test('an unpaid subscription that is fetched later: credit runs from when it became unpaid', async () => {
    const { world, subscription, customer, credit } = await payer();
    world.sandbox.acts.setCard(customer, 'declined');
    await passTime(world, 32 * DAY);
    await deliverWaiting(world);
    world.sandbox.acts.markUnpaid(subscription);
    await passTime(world, 3 * DAY);
    await reconcileWorld(world);
    expect(await credit()).toEqual(runsFrom(32));
  });

  test('a purchase whose events were lost holds credit from the purchase on', async () => {
    const world = await startWorld();
    const person = await signUp(world, 'person@example.com');
    await grantCredit(commandContext(world), person.email, 45, undefined);
    await passTime(world, 20 * DAY);
    await subscribeForAYear(world, person);
    await loseEverything(world);
    await reconcileWorld(world);
    expect(await userRow(world, person.id)).toMatchObject({
      tier: 'paid',
      creditUntil: daysAfter(45),
      creditHeldAt: daysAfter(20),
    });
  });

  test("a trial that became active unnoticed holds credit from the trial's end", async () => {
    const world = await startWorld({ STRIPE_TRIAL_DAYS: '7' });
    const person = await signUp(world, 'person@example.com');
    await grantCredit(commandContext(world), person.email, 45, undefined);
    await subscribeForAYear(world, person);
    await deliverWaiting(world);
    await passTime(world, 8 * DAY);
    await loseEverything(world);
    await reconcileWorld(world);
    expect(await userRow(world, person.id)).toMatchObject({
      tier: 'paid',
      creditUntil: daysAfter(45),
      creditHeldAt: daysAfter(7),
    });
  });
});

test('paid time that is heard of after a later grant is dated at that grant', async () => {
  const {
    subscriptions: [a],
    server,
    grant,
    hear,
  } = await subscriber(1);
  await grant(3, 30);
  await hear(25, ...bought(a, 1));
  await hear(26, a.ended(daysAfter(2)));
  const entries = await server.db.creditEntry.findMany({ orderBy: { seq: 'asc' } });
  expect(entries.map(({ kind, at }) => [kind, at])).toEqual([
    ['grant', daysAfter(3)],
    ['hold', daysAfter(3)],
    ['resume', daysAfter(3)],
  ]);
});

describe('credit does not run while any subscription is paid for', () => {
  const PAYING = ['active', 'past_due'];
  const OVER = ['unpaid', 'paused', 'canceled'];
  const STORIES = inject('thorough') ? 25 : 5;

  /** A subscription's statuses, each with the day it began. */
  type Life = { day: number; status: string }[];

  /** Paid until some day and never again: a start heard out of order before a later start cannot be repaired. */
  function drawLife(draw: Draw): Life {
    const life: Life = [{ day: 0, status: 'active' }];
    const paidUntil = 1 + draw(110);
    for (let day = 1 + draw(30); day < 100; day += 1 + draw(30)) {
      const statuses = day < paidUntil ? PAYING : OVER;
      const status = statuses[draw(statuses.length)] ?? '';
      life.push({ day, status });
      if (status === 'canceled') break;
    }
    return life;
  }

  const endOf = (life: Life): number => life.find(({ status }) => OVER.includes(status))?.day ?? Infinity;

  test.each(['subscription by subscription', 'in random order'])(
    'three subscriptions, heard late, %s',
    async (order) => {
      const draw = seededRandom(order);
      for (let count = 0; count < STORIES; count += 1) {
        const { server, person, subscriptions, grant, hear, credit } = await subscriber(3);
        await hear(0, ...subscriptions.flatMap((stripe) => bought(stripe, 0)));
        await grant(0, 1000);
        const lives = subscriptions.map(() => drawLife(draw));
        const story = `seed ${SEED}, story ${count}: ${JSON.stringify(lives)}`;
        const told = subscriptions.flatMap((stripe, index) =>
          (lives[index] ?? []).slice(1).map(({ day, status }) => ({
            index,
            event: status === 'canceled' ? stripe.ended(daysAfter(day)) : became(stripe, status, day),
          })),
        );
        const mixed = shuffled(draw, told);
        // The subscriptions are still mixed, but each one's own events are in order.
        const queues = subscriptions.map((_, index) => told.filter((one) => one.index === index));
        const inOrder = mixed.map(({ index }) => queues[index]?.shift() ?? { event: {} });
        const events = order === 'in random order' ? mixed : inOrder;
        await hear(100, ...events.map(({ event }) => event));

        const last = Math.max(...lives.map(endOf));
        const { tier } = await userRow(server, person.id);
        expect(tier, story).toBe(last === Infinity ? 'paid' : 'free');
        const entries = await server.db.creditEntry.findMany({
          where: { userId: person.id, kind: 'resume' },
        });
        for (const { at } of entries) expect(at >= daysAfter(last), story).toBe(true);
        if (last !== Infinity && order !== 'in random order') {
          expect(await credit(), story).toEqual(runsFrom(last, 1000));
        }
        await server.stop();
      }
    },
  );
});
