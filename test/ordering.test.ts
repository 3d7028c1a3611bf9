import { describe, expect, test, vi } from 'vitest';

import { invitedFriend } from './support/invited-friend.ts';
import { permutations } from './support/permutations.ts';
import {
  clientOf,
  daysAfter,
  deliver,
  deliverAll,
  START,
  startTestServer,
  userRow,
} from './support/server.ts';
import type { TestServer } from './support/server.ts';
import { startStripeApi } from './support/stripe-api.ts';
import { buyer, epoch, stripeId } from './support/stripe-events.ts';
import type { Buyer } from './support/stripe-events.ts';

/** Everything that the order of events must not change. */
async function endState(server: TestServer) {
  const users = await server.db.user.findMany({ orderBy: { email: 'asc' } });
  const [referral] = await server.db.referral.findMany();
  const [subscription] = await server.db.subscription.findMany();
  return {
    users: users.map(({ email, tier, creditUntil, creditHeldAt }) => ({
      email,
      tier,
      creditUntil,
      creditHeldAt,
    })),
    converted: referral?.convertedAt ?? null,
    reversed: referral?.reversedAt ?? null,
    status: subscription?.status,
    cancelAtPeriodEnd: subscription?.cancelAtPeriodEnd,
    proven: subscription?.provenAt !== null,
  };
}

describe('the events of a purchase in any order', () => {
  const minute = (n: number): Date => new Date(START.getTime() + n * 60_000);
  const stories = {
    'spread over minutes': minute,
    'all in one second': () => START,
  };

  for (const [name, at] of Object.entries(stories)) {
    const orders = permutations(['created', 'updated', 'checkout', 'invoice'] as const);
    test.each(orders.map((order) => [order.join(', ')]))(`${name}: %s`, async (order) => {
      const server = await startTestServer();
      const { friend, stripe } = await invitedFriend(server);
      const events = {
        created: stripe.created({ status: 'incomplete' }, { at: at(0) }),
        updated: stripe.updated({}, { at: at(1), previous: { status: 'incomplete' } }),
        checkout: stripe.checkoutCompleted({}, { at: at(2) }),
        invoice: stripe.invoicePaid({}, { at: at(3) }),
      };
      server.clock.now = daysAfter(1);
      for (const key of order.split(', ') as (keyof typeof events)[]) {
        expect((await deliver(server, events[key])).statusCode).toBe(200);
      }
      expect(await endState(server)).toEqual({
        users: [
          {
            email: 'friend@example.com',
            tier: 'paid',
            creditUntil: daysAfter(46),
            creditHeldAt: daysAfter(1),
          },
          { email: 'referrer@example.com', tier: 'free', creditUntil: daysAfter(46), creditHeldAt: null },
        ],
        converted: daysAfter(1),
        reversed: null,
        status: 'active',
        cancelAtPeriodEnd: false,
        proven: true,
      });
      await userRow(server, friend.id);
    });
  }

  const trialOrders = permutations(['created', 'active', 'checkout', 'zero'] as const);
  test.each(trialOrders.map((order) => [order.join(', ')]))(
    'a trial does not convert in any order of its events: %s',
    async (order) => {
      const server = await startTestServer();
      const { friend, stripe } = await invitedFriend(server);
      const trialEnd = { trial_end: epoch(daysAfter(7)) };
      const events = {
        created: stripe.created({ status: 'trialing', ...trialEnd }),
        active: stripe.updated({ ...trialEnd }, { at: daysAfter(7), previous: { status: 'trialing' } }),
        checkout: stripe.checkoutCompleted({ payment_status: 'no_payment_required' }),
        zero: stripe.invoicePaid({ amount_paid: 0 }),
      };
      server.clock.now = daysAfter(7);
      for (const key of order.split(', ') as (keyof typeof events)[]) {
        expect((await deliver(server, events[key])).statusCode).toBe(200);
      }
      const state = await endState(server);
      expect(state).toMatchObject({ converted: null, status: 'active', proven: false });
      expect(await userRow(server, friend.id)).toMatchObject({ tier: 'paid', creditUntil: null });
    },
  );
});

describe('a late snapshot', () => {
  test('changes nothing and is ignored', async () => {
    const server = await startTestServer();
    const { friend, stripe } = await invitedFriend(server);
    await deliverAll(server, [
      stripe.checkoutCompleted(),
      stripe.created(),
      stripe.updated({ status: 'unpaid' }, { at: daysAfter(3) }),
    ]);
    const late = await deliver(server, stripe.updated({ status: 'active' }, { at: daysAfter(2) }));
    expect(late.json()).toEqual({
      status: 'ignored',
      reason: 'a later snapshot of the subscription is already known',
    });
    expect(await userRow(server, friend.id)).toMatchObject({ tier: 'free' });
  });

  test('still teaches that the subscription was active, and converts', async () => {
    const server = await startTestServer();
    const { friend, referrer, stripe } = await invitedFriend(server);
    await deliverAll(server, [stripe.checkoutCompleted(), stripe.ended(daysAfter(3))]);
    expect(await userRow(server, referrer.id)).toMatchObject({ creditUntil: null });
    await deliverAll(server, [stripe.created()]);
    expect(await userRow(server, friend.id)).toMatchObject({ tier: 'free', creditUntil: daysAfter(45) });
    expect(await userRow(server, referrer.id)).toMatchObject({ creditUntil: daysAfter(45) });
  });

  test('no snapshot revives a cancelled subscription, however new it is', async () => {
    const server = await startTestServer();
    const { friend, stripe } = await invitedFriend(server);
    await deliverAll(server, [stripe.checkoutCompleted(), stripe.created(), stripe.ended(daysAfter(1))]);
    await deliver(server, stripe.updated({}, { at: daysAfter(2) }));
    expect(await userRow(server, friend.id)).toMatchObject({ tier: 'free' });
  });

  test('an end counts even when something newer is known', async () => {
    const server = await startTestServer();
    const { friend, stripe } = await invitedFriend(server);
    await deliverAll(server, [
      stripe.checkoutCompleted(),
      stripe.updated({}, { at: daysAfter(2) }),
      stripe.ended(daysAfter(1)),
    ]);
    expect(await userRow(server, friend.id)).toMatchObject({ tier: 'free' });
  });
});

test('an event without `created` counts as of its receipt, and one without `livemode` is accepted', async () => {
  // With a key, the server compares the event's mode with its own.
  const server = await startTestServer({ STRIPE_API_KEY: 'sk_live_x' });
  const { friend, stripe } = await invitedFriend(server);
  const { livemode: itsMode, ...checkout } = stripe.checkoutCompleted();
  const { livemode, created, ...snapshot } = stripe.created();
  expect([itsMode, livemode, created]).toEqual([false, false, epoch(START)]);
  await deliverAll(server, [checkout]);
  server.clock.now = new Date(daysAfter(5).getTime() + 999);
  await deliverAll(server, [snapshot]);
  expect(await server.db.subscription.findFirst()).toMatchObject({ snapshotAt: daysAfter(5) });
  expect(await userRow(server, friend.id)).toMatchObject({ tier: 'paid' });
});

describe('two updates of one second', () => {
  const willEnd = { cancel_at_period_end: true };
  const pairs = (stripe: Buyer) => ({
    // The plan is cancelled and its payment fails within one second: the second update follows the first.
    cancels: stripe.updated(willEnd, { at: daysAfter(1), previous: { cancel_at_period_end: false } }),
    fallsDue: stripe.updated(
      { ...willEnd, status: 'past_due' },
      { at: daysAfter(1), previous: { status: 'active' } },
    ),
  });

  test.each([[['cancels', 'fallsDue']], [['fallsDue', 'cancels']]] as const)(
    'come out right in any order: %s',
    async (order) => {
      const server = await startTestServer();
      const { stripe } = await invitedFriend(server);
      await deliverAll(server, [stripe.checkoutCompleted(), stripe.created()]);
      const events = pairs(stripe);
      for (const key of order) expect((await deliver(server, events[key])).statusCode).toBe(200);
      expect(await server.db.subscription.findFirst()).toMatchObject({
        status: 'past_due',
        cancelAtPeriodEnd: true,
      });
    },
  );

  const undecidable = (stripe: Buyer): [object, object] => [
    stripe.updated(willEnd, { at: daysAfter(1), previous: { cancel_at_period_end: false } }),
    stripe.updated(
      { cancel_at_period_end: false },
      { at: daysAfter(1), previous: { cancel_at_period_end: true } },
    ),
  ];

  test('that the events themselves do not order are settled by asking Stripe', async () => {
    let stripe = buyer();
    const api = await startStripeApi(() => ({
      body: stripe.subscriptionObject({ ...willEnd, status: 'past_due' }),
    }));
    const server = await startTestServer(api.env);
    ({ stripe } = await invitedFriend(server));
    await deliverAll(server, [stripe.checkoutCompleted(), stripe.created(), ...undecidable(stripe)]);
    expect(api.asked).toEqual([`/v1/subscriptions/${stripe.subscription}`]);
    expect(await server.db.subscription.findFirst()).toMatchObject({
      status: 'past_due',
      cancelAtPeriodEnd: true,
      snapshotAt: daysAfter(1),
      snapshotEventId: null,
      needsReconcile: false,
    });
  });

  test("a newer event that arrives while Stripe is asked about a tie wins over Stripe's answer", async () => {
    let newer: () => Promise<void> = () => Promise.reject(new Error('asked too early'));
    let stripe = buyer();
    const api = await startStripeApi(async () => {
      await newer();
      return { body: stripe.subscriptionObject({ ...willEnd, status: 'past_due' }) };
    });
    const server = await startTestServer(api.env);
    ({ stripe } = await invitedFriend(server));
    const later = stripe.updated({ status: 'unpaid' }, { at: daysAfter(2) });
    newer = () => deliverAll(server, [later]);
    const [first, second] = undecidable(stripe);
    await deliverAll(server, [stripe.checkoutCompleted(), stripe.created(), first]);
    await deliverAll(server, [second], 'ignored');
    expect(api.asked).toEqual([`/v1/subscriptions/${stripe.subscription}`]);
    expect(await server.db.subscription.findFirst()).toMatchObject({
      status: 'unpaid',
      cancelAtPeriodEnd: false,
      snapshotAt: daysAfter(2),
      snapshotEventId: later.id,
      needsReconcile: false,
    });
  });

  test('a tie while Stripe hangs: it is given up after 2 s, the last update holds, and the row is marked', async () => {
    const api = await startStripeApi(() => new Promise(() => undefined));
    const server = await startTestServer(api.env);
    const { stripe } = await invitedFriend(server);
    const { subscriptions } = clientOf(server);
    const retrieve = subscriptions.retrieve.bind(subscriptions);
    // The client's own timeout ends the request, only sooner: the test need not wait.
    const asking = vi.spyOn(subscriptions, 'retrieve');
    asking.mockImplementation((id, params, options) => retrieve(id, params, { ...options, timeout: 20 }));
    await deliverAll(server, [stripe.checkoutCompleted(), stripe.created(), ...undecidable(stripe)]);
    expect(api.asked).toEqual([`/v1/subscriptions/${stripe.subscription}`]);
    expect(asking.mock.calls.map(([, , options]) => options)).toEqual([
      { timeout: 2_000, maxNetworkRetries: 0 },
    ]);
    expect(await server.db.subscription.findFirst()).toMatchObject({
      cancelAtPeriodEnd: false,
      needsReconcile: true,
    });
  });

  test('a tie that Stripe cannot settle now: the last update holds, and the row is marked for reconcile', async () => {
    const api = await startStripeApi(() => ({ status: 500, body: { error: { message: 'down' } } }));
    const server = await startTestServer(api.env);
    const { stripe } = await invitedFriend(server);
    await deliverAll(server, [stripe.checkoutCompleted(), stripe.created(), ...undecidable(stripe)]);
    expect(await server.db.subscription.findFirst()).toMatchObject({
      cancelAtPeriodEnd: false,
      needsReconcile: true,
    });

    await deliverAll(server, [stripe.updated({}, { at: daysAfter(2), id: stripeId('evt') })]);
    expect(await server.db.subscription.findFirst()).toMatchObject({ needsReconcile: false });
  });
});

describe("Stripe's shapes before 2025-03", () => {
  test("objects in Stripe's shape before 2025-03 are read as well", async () => {
    const server = await startTestServer();
    const { friend, referrer, stripe } = await invitedFriend(server);
    const periodEnd = epoch(daysAfter(31));
    await deliverAll(server, [
      stripe.created({
        status: 'trialing',
        current_period_end: periodEnd,
        items: { data: [{ price: { id: 'price_a', unit_amount: 9000 } }] },
      }),
      stripe.invoicePaid({
        parent: undefined,
        subscription: stripe.subscription,
        customer: { id: stripe.customer },
      }),
      stripe.checkoutCompleted(),
    ]);
    expect(await server.db.subscription.findFirst()).toMatchObject({
      priceId: 'price_a',
      currentPeriodEnd: daysAfter(31),
    });
    expect(await userRow(server, friend.id)).toMatchObject({ tier: 'trial', creditUntil: daysAfter(45) });
    expect(await userRow(server, referrer.id)).toMatchObject({ creditUntil: daysAfter(45) });
  });
});
