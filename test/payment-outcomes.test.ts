import { describe, expect, test } from 'vitest';

import { invitation } from './support/invited-friend.ts';
import { DAY, daysAfter, deliver, deliverAll, domainRows, signUp, START, userRow } from './support/server.ts';
import type { Person, TestServer } from './support/server.ts';
import { buyer, epoch, stripeEvent, stripeId } from './support/stripe-events.ts';
import type { Buyer } from './support/stripe-events.ts';

const seconds = (n: number): Date => new Date(START.getTime() + n * 1000);

async function converted(
  { db }: TestServer,
  friend: Person,
): Promise<{ at: Date | null; reversed: boolean }> {
  const { convertedAt, reversedAt } = await db.referral.findUniqueOrThrow({
    where: { referredId: friend.id },
  });
  return { at: convertedAt, reversed: reversedAt !== null };
}

describe('a first payment or renewal that fails', () => {
  const types = ['invoice.payment_failed', 'invoice.payment_action_required'] as const;
  const failing = (type: string, stripe: Buyer, fields: object = {}, at = START) => ({
    ...stripe.invoicePaid({ amount_paid: 0, status_transitions: { paid_at: null }, ...fields }, { at }),
    type,
  });

  test.each(types)('%s for the first invoice: being active proves nothing until it is paid', async (type) => {
    const { server, friend, referrer, stripe } = await invitation();
    await deliverAll(server, [stripe.checkoutCompleted(), failing(type, stripe), stripe.created()]);
    expect(await converted(server, friend)).toEqual({ at: null, reversed: false });
    expect(await userRow(server, friend.id)).toMatchObject({ tier: 'paid' });
    server.clock.now = daysAfter(1);
    await deliverAll(server, [stripe.invoicePaid({}, { at: daysAfter(1) })]);
    expect(await converted(server, friend)).toEqual({ at: daysAfter(1), reversed: false });
    expect(await userRow(server, referrer.id)).toMatchObject({ creditUntil: daysAfter(46) });
  });

  test.each(types)(
    '%s of the first invoice, received late: what was credited is taken back until it is paid',
    async (type) => {
      const { server, friend, referrer, stripe } = await invitation();
      await deliverAll(server, [stripe.checkoutCompleted(), stripe.created()]);
      server.clock.now = daysAfter(1);
      await deliverAll(server, [failing(type, stripe)]);
      expect(await converted(server, friend)).toEqual({ at: START, reversed: true });
      expect(await userRow(server, referrer.id)).toMatchObject({ creditUntil: daysAfter(1) });
      server.clock.now = daysAfter(2);
      await deliverAll(server, [stripe.invoicePaid({}, { at: daysAfter(2) })]);
      expect(await converted(server, friend)).toEqual({ at: START, reversed: false });
      expect(await userRow(server, referrer.id)).toMatchObject({ creditUntil: daysAfter(46) });
    },
  );

  test.each(types)('%s for a first invoice that has been paid since changes nothing', async (type) => {
    const { server, friend, stripe } = await invitation();
    await deliverAll(server, [stripe.checkoutCompleted(), stripe.created(), stripe.invoicePaid()]);
    const { users, referrals, credit } = await domainRows(server);
    await deliverAll(server, [failing(type, stripe), failing(type, stripe, {}, seconds(-5))]);
    expect(await domainRows(server)).toMatchObject({ users, referrals, credit });
    expect(await converted(server, friend)).toEqual({ at: START, reversed: false });
  });

  test.each(types)("%s for a renewal changes no tier: the subscription's status decides it", async (type) => {
    const { server, friend, stripe } = await invitation();
    await deliverAll(server, [stripe.checkoutCompleted(), stripe.created(), stripe.invoicePaid()]);
    const before = await domainRows(server);
    const renewal = { id: stripeId('in'), billing_reason: 'subscription_cycle' };
    server.clock.now = daysAfter(31);
    const answer = await deliver(server, failing(type, stripe, renewal, daysAfter(31)));
    expect(answer.json()).toEqual({
      status: 'ignored',
      reason: "a failed renewal shows in the subscription's status",
    });
    expect(await domainRows(server)).toEqual(before);
    await deliverAll(server, [stripe.updated({ status: 'past_due' }, { at: daysAfter(31) })]);
    expect(await userRow(server, friend.id)).toMatchObject({ tier: 'paid' });
    server.clock.now = daysAfter(45);
    await deliverAll(server, [stripe.updated({ status: 'unpaid' }, { at: daysAfter(45) })]);
    expect(await userRow(server, friend.id)).toMatchObject({ tier: 'free', creditUntil: daysAfter(90) });
  });
});

describe('a bank debit', () => {
  const later = (stripe: Buyer, outcome: 'succeeded' | 'failed', payment_status: string) => ({
    ...stripe.checkoutCompleted({ payment_status }, { at: daysAfter(4) }),
    type: `checkout.session.async_payment_${outcome}`,
  });

  test('that is pending gives access but no conversion; its paid invoice proves that it succeeded', async () => {
    const { server, friend, stripe } = await invitation();
    await deliverAll(server, [stripe.checkoutCompleted({ payment_status: 'unpaid' }), stripe.created()]);
    expect(await userRow(server, friend.id)).toMatchObject({ tier: 'paid' });
    server.clock.now = daysAfter(4);
    await deliverAll(server, [later(stripe, 'succeeded', 'paid')]);
    expect(await converted(server, friend)).toEqual({ at: null, reversed: false });
    await deliverAll(server, [stripe.invoicePaid({}, { at: daysAfter(4) })]);
    expect(await converted(server, friend)).toEqual({ at: daysAfter(4), reversed: false });
  });

  test('a bank debit that fails never converts, even when the subscription was called active', async () => {
    const { server, friend, referrer, stripe } = await invitation();
    await deliverAll(server, [stripe.checkoutCompleted({ payment_status: 'unpaid' }), stripe.created()]);
    server.clock.now = daysAfter(4);
    await deliverAll(server, [
      later(stripe, 'failed', 'unpaid'),
      stripe.updated({ status: 'past_due' }, { at: daysAfter(4) }),
    ]);
    expect(await userRow(server, friend.id)).toMatchObject({ tier: 'free', creditUntil: null });
    expect(await userRow(server, referrer.id)).toMatchObject({ creditUntil: null });
    expect(await converted(server, friend)).toEqual({ at: null, reversed: false });
  });

  test.each(['succeeded', 'failed'] as const)(
    'an asynchronous payment that %s, with no other event of its checkout, links the customer but proves no payment',
    async (outcome) => {
      const { server, friend, stripe } = await invitation();
      await deliverAll(server, [
        later(stripe, outcome, outcome === 'failed' ? 'unpaid' : 'paid'),
        stripe.created(),
      ]);
      expect(await userRow(server, friend.id)).toMatchObject({ tier: 'paid' });
      expect(await converted(server, friend)).toEqual({ at: null, reversed: false });
    },
  );

  test('whose checkout arrives after the subscription reverses a premature conversion', async () => {
    const { server, friend, stripe } = await invitation();
    await deliverAll(server, [stripe.checkoutCompleted({ subscription: null }), stripe.created()]);
    expect(await converted(server, friend)).toEqual({ at: START, reversed: false });
    await deliverAll(server, [later(stripe, 'succeeded', 'paid')]);
    expect(await converted(server, friend)).toEqual({ at: START, reversed: true });
  });
});

describe('the tier that a status gives', () => {
  const NEVER_PAID = { trial_end: epoch(daysAfter(7)) };
  const statuses: [status: string, paid: string, neverPaid: string][] = [
    ['active', 'paid', 'paid'],
    ['trialing', 'trial', 'trial'],
    ['past_due', 'paid', 'free'],
    ['unpaid', 'free', 'free'],
    ['paused', 'free', 'free'],
    ['incomplete', 'free', 'free'],
    ['incomplete_expired', 'free', 'free'],
    ['canceled', 'free', 'free'],
    ['an_unknown_status', 'free', 'free'],
  ];

  test.each(statuses)(
    'status %s: tier %s after a payment, %s without one',
    async (status, paid, neverPaid) => {
      const { server, friend, stripe } = await invitation();
      await deliverAll(server, [
        stripe.checkoutCompleted(),
        stripe.created(),
        stripe.updated({ status }, { at: seconds(1) }),
      ]);
      expect(await userRow(server, friend.id)).toMatchObject({ tier: paid });

      const other = await signUp(server, 'other@example.com');
      const theirs = buyer(other.id);
      await deliverAll(server, [
        theirs.checkoutCompleted(),
        theirs.created({ status: 'trialing', ...NEVER_PAID }),
        theirs.updated({ status, ...NEVER_PAID }, { at: seconds(1) }),
      ]);
      expect(await userRow(server, other.id)).toMatchObject({ tier: neverPaid });
    },
  );

  test('paused and resumed arrive as events of their own', async () => {
    const { server, friend, stripe } = await invitation();
    const told = (what: string, status: string, at: number) => ({
      ...stripe.updated({ status }, { at: seconds(at) }),
      type: `customer.subscription.${what}`,
    });
    await deliverAll(server, [stripe.checkoutCompleted(), stripe.created()]);
    server.clock.now = daysAfter(10);
    await deliverAll(server, [told('paused', 'paused', 10 * DAY)]);
    expect(await userRow(server, friend.id)).toMatchObject({ tier: 'free', creditUntil: daysAfter(55) });
    server.clock.now = daysAfter(20);
    await deliverAll(server, [told('resumed', 'active', 20 * DAY)]);
    expect(await userRow(server, friend.id)).toMatchObject({ tier: 'paid', creditHeldAt: daysAfter(20) });
  });

  test('of two subscriptions of one customer the better one counts, in whatever order they arrive', async () => {
    for (const swapped of [false, true]) {
      const { server, friend, stripe } = await invitation();
      const second = stripe.subscriptionObject({ id: stripeId('sub'), status: 'trialing', ...NEVER_PAID });
      const events = [
        stripe.created({ status: 'unpaid' }),
        stripeEvent('customer.subscription.created', second),
      ];
      await deliverAll(server, [stripe.checkoutCompleted(), ...(swapped ? events.reverse() : events)]);
      expect(await userRow(server, friend.id)).toMatchObject({ tier: 'trial' });
    }
  });
});
