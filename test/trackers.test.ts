import { describe, expect, test } from 'vitest';

import { invitedFriend } from './support/invited-friend.ts';
import { keepBusy, refuseCommits, refuseWrites } from './support/other-connection.ts';
import {
  daysAfter,
  deliver,
  deliverAll,
  domainRows,
  me,
  signUp,
  START,
  startTestServer,
  userRow,
} from './support/server.ts';
import { deliverWaiting, passTime, startWorld, subscribe } from './support/stand-in.ts';
import { buyer, epoch } from './support/stripe-events.ts';
import type { Buyer } from './support/stripe-events.ts';

// Failures of other integrations, taken from their public trackers; each has a test here.

/** An invited friend who has pressed Pay: the customer is linked, and the other events follow. */
async function linkedFriend() {
  const server = await startTestServer();
  const people = await invitedFriend(server);
  await deliverAll(server, [people.stripe.checkoutCompleted()]);
  return { server, ...people };
}

const seconds = (n: number): Date => new Date(START.getTime() + n * 1000);

describe('laravel/cashier-stripe 1759: "Duplicate subscriptions"', () => {
  // "`handleCustomerSubscriptionUpdated()` saves the new subscription with `status: active`;
  //  `handleCustomerSubscriptionCreated()` calls `updateOrCreate` and updates the subscription back to `status: incomplete`"
  test('created and updated handled at the same time leave one active subscription', async () => {
    const { server, friend, referrer, stripe } = await linkedFriend();
    const created = stripe.created({ status: 'incomplete' }, { at: seconds(0) });
    const updated = stripe.updated({}, { at: seconds(1), previous: { status: 'incomplete' } });
    const answers = await Promise.all(
      [updated, created, updated, created, created, updated].map((event) => deliver(server, event)),
    );
    expect(answers.map((answer) => answer.statusCode)).toEqual([200, 200, 200, 200, 200, 200]);
    expect(await server.db.subscription.findMany()).toMatchObject([{ status: 'active' }]);
    expect(await me(server, friend)).toMatchObject({ tier: 'paid', subscription: { status: 'active' } });
    for (const { id } of [friend, referrer]) {
      expect(await userRow(server, id)).toMatchObject({ creditUntil: daysAfter(45) });
    }
  });

  test('a `created` event that arrives after an `updated` event of the same second leaves the subscription active', async () => {
    const { server, stripe } = await linkedFriend();
    await deliverAll(server, [stripe.updated({}, { previous: { status: 'incomplete' } })]);
    const answer = await deliver(server, stripe.created({ status: 'incomplete' }));
    expect(answer.json()).toMatchObject({ status: 'ignored' });
    expect(await server.db.subscription.findMany()).toMatchObject([{ status: 'active' }]);
  });
});

describe('laravel/cashier-stripe 1760: "Webhook race condition"', () => {
  // "a customer's subscription ended up in an `incomplete` status […] the `update` has a later `created` timestamp but
  //  seems to have made it to the server first"
  test('an `updated` event is not overwritten by the `created` event of a second earlier that arrives after it', async () => {
    const { server, friend, stripe } = await linkedFriend();
    await deliverAll(server, [stripe.updated({}, { at: seconds(1), previous: { status: 'incomplete' } })]);
    const late = await deliver(server, stripe.created({ status: 'incomplete' }, { at: seconds(0) }));
    expect(late.json()).toEqual({
      status: 'ignored',
      reason: 'a later snapshot of the subscription is already known',
    });
    expect(await me(server, friend)).toMatchObject({
      tier: 'paid',
      access: { granted: true, reason: 'paid' },
      subscription: { status: 'active' },
    });
  });
});

describe('invertase/stripe-firebase-extensions 119: "Race Condition in Firestore DB Updates"', () => {
  // "a transient state of a Stripe subscription [overwrote] the current state […] a long function invocation […] is the
  //  culprit"
  test('a snapshot whose handling takes a long time does not replace a newer one', async () => {
    const { server, friend, stripe } = await linkedFriend();
    await deliverAll(server, [stripe.created({ status: 'incomplete' })]);
    const transient = stripe.updated({ status: 'past_due' }, { at: seconds(1) });
    const current = stripe.updated({ cancel_at_period_end: true }, { at: seconds(2) });

    // Both wait for another writer and are then retried in any order.
    const writer = await keepBusy(server);
    const answers = [deliver(server, transient), deliver(server, current)];
    await writer.blocks();
    await writer.lift();
    for (const answer of await Promise.all(answers)) expect(answer.statusCode).toBe(200);
    expect(await me(server, friend)).toMatchObject({
      tier: 'paid',
      subscription: { status: 'active', cancelAtPeriodEnd: true },
    });
  });

  test('nothing of a stale snapshot is kept: not its plan, its period or its cancellation', async () => {
    const { server, friend, stripe } = await linkedFriend();
    const item = { price: { id: 'price_a', unit_amount: 9000 }, current_period_end: epoch(daysAfter(365)) };
    await deliverAll(server, [
      stripe.created(),
      stripe.updated({ items: { data: [item] } }, { at: seconds(9) }),
    ]);
    const now = await me(server, friend);
    const stale = stripe.updated({ cancel_at: epoch(daysAfter(31)) }, { at: seconds(5) });
    expect((await deliver(server, stale)).json()).toMatchObject({ status: 'ignored' });
    expect(await me(server, friend)).toEqual(now);
    expect(now).toMatchObject({
      subscription: {
        plan: 'annual',
        currentPeriodEnd: daysAfter(365).toISOString(),
        cancelAtPeriodEnd: false,
      },
    });
  });
});

describe('better-auth/better-auth 3978: "Stripe plugin returns stale data when listing active subscriptions"', () => {
  // "In Stripe, cancel the subscription immediately […] See a subscription that still has `status: active` returned"
  test('a subscription cancelled at Stripe is no longer listed as active', async () => {
    const world = await startWorld();
    const ann = await signUp(world, 'ann@example.com');
    const subscription = await subscribe(world, ann);
    await deliverWaiting(world);
    expect(await me(world, ann)).toMatchObject({ tier: 'paid', subscription: { status: 'active' } });

    await passTime(world, 86_400);
    await world.merchant.subscriptions.cancel(subscription);
    await deliverWaiting(world);
    expect(await me(world, ann)).toMatchObject({
      tier: 'free',
      access: { granted: false, until: null, reason: null },
      subscription: { status: 'canceled' },
    });
  });

  test.each([
    ['from before the end', 4],
    ['from the same second as the end', 5],
    ['that claims to be newer than the end', 6],
  ])('an `updated` event %s that comes afterwards does not bring it back', async (_name, second) => {
    const { server, friend, stripe } = await linkedFriend();
    await deliverAll(server, [stripe.created(), stripe.ended(seconds(5))]);
    const late = stripe.updated({}, { at: seconds(second), previous: { cancel_at_period_end: true } });
    expect((await deliver(server, late)).json()).toMatchObject({ status: 'ignored' });
    expect(await me(server, friend)).toMatchObject({
      tier: 'free',
      access: { reason: 'credit' },
      subscription: { status: 'canceled' },
    });
  });

  test('a `resumed` event after the end does not bring it back, nor does a `deleted` event whose own status is active', async () => {
    const { server, friend, stripe } = await linkedFriend();
    const deleted = { ...stripe.updated({}, { at: seconds(5) }), type: 'customer.subscription.deleted' };
    const resumed = { ...stripe.updated({}, { at: seconds(6) }), type: 'customer.subscription.resumed' };
    await deliverAll(server, [stripe.created(), deleted]);
    expect((await deliver(server, resumed)).json()).toMatchObject({ status: 'ignored' });
    expect(await me(server, friend)).toMatchObject({ tier: 'free', subscription: { status: 'canceled' } });
  });
});

describe('better-auth/better-auth 5976: fields that an API version moved become null', () => {
  // `current_period_end` "now lives on the subscription's items, an invoice's subscription under `parent`"
  const OLD_ITEMS = { data: [{ price: { id: 'price_m', unit_amount: 900 } }] };

  test("the period's end is read in either API version and shown", async () => {
    const until = daysAfter(31).toISOString();
    for (const fields of [{}, { items: OLD_ITEMS, current_period_end: epoch(daysAfter(31)) }]) {
      const { server, friend, stripe } = await linkedFriend();
      await deliverAll(server, [stripe.created(fields)]);
      expect(await me(server, friend)).toMatchObject({
        access: { granted: true, until, reason: 'paid' },
        subscription: { plan: 'monthly', currentPeriodEnd: until },
      });
    }
  });

  test('an API version that changes between two events of one subscription loses nothing', async () => {
    const { server, friend, stripe } = await linkedFriend();
    const [before, after] = [epoch(daysAfter(31)), epoch(daysAfter(62))];
    await deliverAll(server, [stripe.created({ items: OLD_ITEMS, current_period_end: before })]);
    const item = { price: { id: 'price_m', unit_amount: 900 }, current_period_end: after };
    await deliverAll(server, [stripe.updated({ items: { data: [item] } }, { at: seconds(9) })]);
    expect(await me(server, friend)).toMatchObject({
      subscription: { currentPeriodEnd: daysAfter(62).toISOString() },
    });
  });

  test('the subscription of an invoice is found in either API version', async () => {
    for (const named of [{}, { parent: undefined, subscription: 'named' }]) {
      const { server, referrer, stripe } = await linkedFriend();
      const subscription = stripe.subscription;
      const fields = 'subscription' in named ? { ...named, subscription } : named;
      // A trial's first money: only the invoice proves it.
      const trial = { status: 'trialing', trial_end: epoch(daysAfter(7)) };
      await deliverAll(server, [stripe.created(trial), stripe.invoicePaid(fields)]);
      expect(await server.db.invoice.findMany()).toMatchObject([
        { subscriptionId: subscription, positive: true },
      ]);
      expect(await userRow(server, referrer.id)).toMatchObject({ creditUntil: daysAfter(45) });
    }
  });
});

describe('better-auth/better-auth 10534: "Stripe webhook acknowledges failed persistence"', () => {
  // "the webhook may return `200`. This can leave the subscription table stale while preventing Stripe from retrying."
  const events = {
    'checkout.session.completed': (stripe: Buyer) => stripe.checkoutCompleted(),
    'customer.subscription.created': (stripe: Buyer) => stripe.created(),
    'customer.subscription.updated': (stripe: Buyer) =>
      stripe.updated({ status: 'unpaid' }, { at: seconds(9) }),
    'customer.subscription.deleted': (stripe: Buyer) => stripe.ended(seconds(10)),
  };

  test.each(Object.keys(events) as (keyof typeof events)[])(
    '%s that cannot be stored is answered 5xx, and applied when Stripe sends it again',
    async (type) => {
      const server = await startTestServer();
      const friend = await signUp(server, 'friend@example.com');
      const stripe = buyer(friend.id);
      for (const [earlier, event] of Object.entries(events)) {
        if (earlier === type) break;
        await deliverAll(server, [event(stripe)]);
      }
      const event = events[type](stripe);
      const before = await domainRows(server);

      const table = type.startsWith('checkout') ? 'Customer' : 'Subscription';
      const isKnown = /updated|deleted/.test(type);
      const refusal = await refuseWrites(server, isKnown ? 'UPDATE' : 'INSERT', table);
      for (let tries = 1; tries <= 2; tries += 1) {
        const answer = await deliver(server, event);
        expect(answer.statusCode).toBeGreaterThanOrEqual(500);
        expect(await domainRows(server)).toEqual(before);
        expect(await server.db.event.findUnique({ where: { id: event.id } })).toMatchObject({
          status: 'failed',
          error: expect.stringMatching(/^PrismaClientKnownRequestError: \S[^\n]*$/) as string,
        });
      }
      await refusal.lift();

      await deliverAll(server, [event]);
      expect(await domainRows(server)).not.toEqual(before);
      expect((await deliver(server, event)).json()).toEqual({ status: 'duplicate' });
      for (const later of Object.values(events)) await deliver(server, later(stripe));
      expect(await me(server, friend)).toMatchObject({ tier: 'free', subscription: { status: 'canceled' } });
    },
  );

  test('an event whose COMMIT fails is answered 5xx and has changed nothing', async () => {
    const { server, friend, stripe } = await linkedFriend();
    const before = await domainRows(server);
    const refusal = await refuseCommits(server, 'Subscription');
    expect((await deliver(server, stripe.created())).statusCode).toBeGreaterThanOrEqual(500);
    expect(await domainRows(server)).toEqual(before);
    await refusal.lift();
    await deliverAll(server, [stripe.created()]);
    expect(await userRow(server, friend.id)).toMatchObject({ tier: 'paid', creditUntil: daysAfter(45) });
  });
});
