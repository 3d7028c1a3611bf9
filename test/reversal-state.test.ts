import { describe, expect, inject, test } from 'vitest';

import { examine } from '../src/operator/doctor.ts';
import { invitedFriend } from './support/invited-friend.ts';
import { SEED, seededRandom, shuffled } from './support/seeded-random.ts';
import { daysAfter, deliver, signUp, START, startTestServer, userRow } from './support/server.ts';
import { buyer, epoch, stripeId } from './support/stripe-events.ts';
import type { Buyer } from './support/stripe-events.ts';

/** A purchase on a day: four events in the order in which Stripe sends them. */
const purchase = (stripe: Buyer, day: number) => {
  const at = { at: daysAfter(day) };
  return [
    stripe.checkoutCompleted({}, at),
    stripe.created({ created: epoch(at.at) }, at),
    stripe.invoicePaid({}, at),
    stripe.invoicePaymentPaid({}, at),
  ];
};

/** The money goes back and the subscription ends on the same day. */
const takenBack = (stripe: Buyer, day: number) => [
  stripe.chargeRefunded({}, { at: daysAfter(day) }),
  stripe.ended(daysAfter(day)),
];

const SECOND = 1 / 86_400;

/** What happens to one friend, in days after START, and whether their referral holds in the end. */
const STORIES: Record<string, { holds: boolean; tier: string; events: (userId: string) => object[] }> = {
  'a duplicate is refunded and cancelled, the other one goes on': {
    holds: true,
    tier: 'paid',
    events: (userId) => {
      const [first, second] = [buyer(userId), buyer(userId)];
      return [...purchase(first, 0), ...purchase(second, 90 * SECOND), ...takenBack(first, 1)];
    },
  },
  'the second of two purchases is refunded and cancelled': {
    holds: true,
    tier: 'paid',
    events: (userId) => {
      const [first, second] = [buyer(userId), buyer(userId)];
      return [...purchase(first, 0), ...purchase(second, 90 * SECOND), ...takenBack(second, 1)];
    },
  },
  'both of two purchases are refunded': {
    holds: false,
    tier: 'free',
    events: (userId) => {
      const [first, second] = [buyer(userId), buyer(userId)];
      return [
        ...purchase(first, 0),
        ...purchase(second, 90 * SECOND),
        ...takenBack(first, 1),
        ...takenBack(second, 2),
      ];
    },
  },
  'refunded, then bought again': {
    holds: true,
    tier: 'paid',
    events: (userId) => {
      const [first, second] = [buyer(userId), buyer(userId)];
      return [...purchase(first, 0), ...takenBack(first, 10), ...purchase(second, 40)];
    },
  },
  'refunded, bought again, refunded again': {
    holds: false,
    tier: 'free',
    events: (userId) => {
      const [first, second] = [buyer(userId), buyer(userId)];
      return [
        ...purchase(first, 0),
        ...takenBack(first, 10),
        ...purchase(second, 40),
        ...takenBack(second, 50),
      ];
    },
  },
  'refunded, and the plan renews': {
    holds: true,
    tier: 'paid',
    events: (userId) => {
      const stripe = buyer(userId);
      const [invoice, payment_intent] = [stripeId('in'), stripeId('pi')];
      const at = { at: daysAfter(31) };
      return [
        ...purchase(stripe, 0),
        stripe.chargeRefunded({}, { at: daysAfter(10) }),
        stripe.invoicePaid({ id: invoice, billing_reason: 'subscription_cycle' }, at),
        stripe.invoicePaymentPaid({ invoice, payment: { type: 'payment_intent', payment_intent } }, at),
      ];
    },
  },
  'refunded, the plan renews, and that is refunded as well': {
    holds: false,
    tier: 'paid',
    events: (userId) => {
      const stripe = buyer(userId);
      const [invoice, payment_intent] = [stripeId('in'), stripeId('pi')];
      const at = { at: daysAfter(31) };
      return [
        ...purchase(stripe, 0),
        stripe.chargeRefunded({}, { at: daysAfter(10) }),
        stripe.invoicePaid({ id: invoice, billing_reason: 'subscription_cycle' }, at),
        stripe.invoicePaymentPaid({ invoice, payment: { type: 'payment_intent', payment_intent } }, at),
        stripe.chargeRefunded({ id: stripeId('ch'), payment_intent }, { at: daysAfter(33) }),
      ];
    },
  },
  'refunded, bought again by an invoice that is not known, and cancelled': {
    holds: true,
    tier: 'free',
    events: (userId) => {
      const [first, second] = [buyer(userId), buyer(userId)];
      return [
        ...purchase(first, 0),
        ...takenBack(first, 10),
        ...purchase(second, 40).slice(0, 2),
        second.ended(daysAfter(50)),
      ];
    },
  },
  'refunded, then a trial that never pays': {
    holds: false,
    tier: 'trial',
    events: (userId) => {
      const [first, second] = [buyer(userId), buyer(userId)];
      const at = { at: daysAfter(40) };
      return [
        ...purchase(first, 0),
        ...takenBack(first, 10),
        second.checkoutCompleted({ payment_status: 'no_payment_required' }, at),
        second.created({ status: 'trialing', trial_end: epoch(daysAfter(70)) }, at),
        second.invoicePaid({ amount_paid: 0 }, at),
      ];
    },
  },
};

/** How many orders of each story are tried: in order, backwards, and at random. */
const ORDERS = inject('thorough') ? 12 : 5;

describe('a referral is reversed exactly while no subscription holds, whatever arrives first', () => {
  test.each(Object.entries(STORIES))('%s', async (_name, story) => {
    const server = await startTestServer();
    const draw = seededRandom('orders of reversals');
    const now = daysAfter(100);
    server.clock.now = now;
    for (let order = 0; order < ORDERS; order += 1) {
      const referrer = await signUp(server, `referrer${order}@example.com`);
      const friend = await signUp(server, `friend${order}@example.com`, referrer.code);
      const inOrder = story.events(friend.id);
      const events = order === 0 ? inOrder : order === 1 ? inOrder.toReversed() : shuffled(draw, inOrder);
      const why = `SEED=${SEED}: ${events.map((event) => (event as { type: string }).type).join(', ')}`;
      for (const event of events) expect((await deliver(server, event)).statusCode).toBe(200);

      const referral = await server.db.referral.findUniqueOrThrow({ where: { referredId: friend.id } });
      expect(referral, why).toMatchObject({ convertedAt: now, reversedAt: story.holds ? null : now });
      const left = story.holds ? daysAfter(145) : now;
      expect(await userRow(server, friend.id), why).toMatchObject({ tier: story.tier, creditUntil: left });
      expect(await userRow(server, referrer.id), why).toMatchObject({ tier: 'free', creditUntil: left });
    }
    const findings = await examine(server.db, { clawbackDays: 30, now });
    expect(findings.filter(({ check }) => check !== 'one-subscription')).toEqual([]);
  });
});

describe('payments and refunds in their real order', () => {
  async function invitation() {
    const server = await startTestServer();
    const { referrer, friend } = await invitedFriend(server);
    const hear = async (day: number, events: readonly object[]): Promise<void> => {
      server.clock.now = daysAfter(day);
      for (const event of events) expect((await deliver(server, event)).statusCode).toBe(200);
    };
    const credit = async () => ({
      friend: (await userRow(server, friend.id)).creditUntil,
      referrer: (await userRow(server, referrer.id)).creditUntil,
    });
    const reversedAt = async () =>
      (await server.db.referral.findUniqueOrThrow({ where: { referredId: friend.id } })).reversedAt;
    return { server, referrer, friend, hear, credit, reversedAt };
  }

  test('a refunded duplicate purchase costs nobody a day', async () => {
    const { friend, server, hear, credit, reversedAt } = await invitation();
    const [first, second] = [buyer(friend.id), buyer(friend.id)];
    await hear(0, purchase(first, 0));
    await hear(90 * SECOND, purchase(second, 90 * SECOND));
    await hear(1, takenBack(first, 1));
    expect(await reversedAt()).toBeNull();
    expect(await credit()).toEqual({ friend: daysAfter(45), referrer: daysAfter(45) });
    expect(await userRow(server, friend.id)).toMatchObject({ tier: 'paid', creditHeldAt: START });
  });

  test('somebody who buys again gets back the days that were left, once', async () => {
    const { friend, server, hear, credit, reversedAt } = await invitation();
    const [first, second] = [buyer(friend.id), buyer(friend.id)];
    await hear(0, purchase(first, 0));
    await hear(20, takenBack(first, 20));
    expect(await reversedAt()).toEqual(daysAfter(20));
    expect(await credit()).toEqual({ friend: daysAfter(20), referrer: daysAfter(20) });
    await hear(60, purchase(second, 60));
    expect(await reversedAt()).toBeNull();
    // The friend had spent none of their days, the referrer 20.
    expect(await credit()).toEqual({ friend: daysAfter(105), referrer: daysAfter(85) });
    await hear(70, takenBack(second, 70));
    expect(await reversedAt()).toEqual(daysAfter(70));
    expect(await credit()).toEqual({ friend: daysAfter(70), referrer: daysAfter(70) });
    expect(await server.db.creditEntry.count({ where: { kind: 'grant' } })).toBe(2);
  });

  test('a conversion whose refund was known before announces no days to anybody', async () => {
    const { server, referrer, friend, hear } = await invitation();
    const stripe = buyer(friend.id);
    await hear(1, [stripe.checkoutCompleted()]);
    await hear(2, [stripe.invoicePaymentPaid()]);
    await hear(3, [stripe.chargeRefunded({}, { at: daysAfter(3) })]);
    await hear(4, [stripe.invoicePaid()]);
    // Both in the transaction of the last event.
    expect(await server.db.referral.findUniqueOrThrow({ where: { referredId: friend.id } })).toMatchObject({
      convertedAt: daysAfter(4),
      reversedAt: daysAfter(4),
    });
    for (const { cookie } of [referrer, friend]) {
      const page = await server.app.inject({ url: '/settings', headers: { cookie } });
      expect(page.statusCode).toBe(200);
      expect(page.body).not.toContain('you got');
      expect(page.body).not.toContain('no longer counts, so');
    }
  });

  test('a renewal returns the days, and its own refund takes them again', async () => {
    const { friend, hear, reversedAt } = await invitation();
    const stripe = buyer(friend.id);
    const [invoice, payment_intent] = [stripeId('in'), stripeId('pi')];
    const at = { at: daysAfter(31) };
    await hear(0, purchase(stripe, 0));
    await hear(10, [stripe.chargeRefunded({}, { at: daysAfter(10) })]);
    expect(await reversedAt()).toEqual(daysAfter(10));
    await hear(31, [
      stripe.invoicePaid({ id: invoice, billing_reason: 'subscription_cycle' }, at),
      stripe.invoicePaymentPaid({ invoice, payment: { type: 'payment_intent', payment_intent } }, at),
    ]);
    expect(await reversedAt()).toBeNull();
    await hear(40, [stripe.chargeRefunded({ id: stripeId('ch'), payment_intent }, { at: daysAfter(40) })]);
    expect(await reversedAt()).toEqual(daysAfter(40));
  });
});
