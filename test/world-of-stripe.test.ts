import { describe, expect, test } from 'vitest';

import { invitedFriend } from './support/invited-friend.ts';
import {
  DAY,
  daysAfter,
  deliver,
  deliverAll,
  domainRows,
  deliverRaw,
  makeTombstone,
  sign,
  signUp,
  START,
  startTestServer,
  userRow,
  WEBHOOK_SECRET,
} from './support/server.ts';
import type { Person, TestServer } from './support/server.ts';
import { buyer, epoch, stripeEvent, stripeId } from './support/stripe-events.ts';

type Buyer = ReturnType<typeof buyer>;

const NEXT_SECRET = 'whsec_next';
const HOUR = 3600;
const seconds = (n: number): Date => new Date(START.getTime() + n * 1000);

/** A referrer and an invited friend who has not been to the checkout. */
async function invitation(env: NodeJS.ProcessEnv = {}) {
  const server = await startTestServer(env);
  return { server, ...(await invitedFriend(server)) };
}

/** One event of each kind that would change something. */
function everything(stripe: Buyer): object[] {
  const dispute = stripe.dispute(START);
  return [
    stripe.checkoutCompleted(),
    stripe.created(),
    stripe.invoicePaid(),
    stripe.invoicePaymentPaid(),
    dispute.opened(),
    dispute.lost(seconds(1)),
    stripe.chargeRefunded(),
    stripe.refundFailed(),
    stripe.ended(seconds(2)),
    stripe.customerDeleted({ at: seconds(3) }),
  ];
}

async function converted(
  { db }: TestServer,
  friend: Person,
): Promise<{ at: Date | null; reversed: boolean }> {
  const { convertedAt, reversedAt } = await db.referral.findUniqueOrThrow({
    where: { referredId: friend.id },
  });
  return { at: convertedAt, reversed: reversedAt !== null };
}

describe('rotating the signing secret', () => {
  const send = ({ app }: TestServer, event: object, signature: (payload: string) => string) => {
    const payload = JSON.stringify(event);
    return deliverRaw(app, payload, signature(payload));
  };
  const by = (secret: string) => (payload: string) => sign(payload, START, secret);

  test('while the secret is rotated, events signed with either one are applied', async () => {
    const { server, friend, stripe } = await invitation({
      STRIPE_WEBHOOK_SECRET: `${WEBHOOK_SECRET},${NEXT_SECRET}`,
    });
    expect((await send(server, stripe.checkoutCompleted(), by(WEBHOOK_SECRET))).json()).toEqual({
      status: 'ok',
    });
    expect((await send(server, stripe.created(), by(NEXT_SECRET))).json()).toEqual({ status: 'ok' });
    expect(await userRow(server, friend.id)).toMatchObject({ tier: 'paid', creditUntil: daysAfter(45) });
  });

  test('an event signed with a removed secret is refused, and nothing of it is kept', async () => {
    const { server, stripe } = await invitation({ STRIPE_WEBHOOK_SECRET: NEXT_SECRET });
    const before = await domainRows(server);
    for (const event of everything(stripe)) {
      expect((await send(server, event, by(WEBHOOK_SECRET))).statusCode).toBe(400);
    }
    expect(await domainRows(server)).toEqual(before);
    expect(await server.db.event.count()).toBe(0);
  });

  // Until an old secret has expired, Stripe signs with both: https://docs.stripe.com/webhooks#roll-endpoint-secrets
  test.each([
    ['the old one', WEBHOOK_SECRET],
    ['the new one', NEXT_SECRET],
  ])(
    'an event that Stripe signed with both is accepted by a server that knows only %s',
    async (_name, known) => {
      const { server, stripe } = await invitation({ STRIPE_WEBHOOK_SECRET: known });
      const both = (payload: string) => {
        const [, second = ''] = by(NEXT_SECRET)(payload).split(',');
        return `${by(WEBHOOK_SECRET)(payload)},${second}`;
      };
      expect((await send(server, stripe.created(), both)).json()).toEqual({ status: 'ok' });
    },
  );
});

describe('the age of a signature', () => {
  test.each([
    ['one 299 seconds old is accepted', -299, 200],
    ['one 301 seconds old is refused', -301, 400],
    ['one from the same second is accepted', 0, 200],
    ['one from a clock ten minutes ahead of ours is accepted', 600, 200],
  ])('the age limit of signatures: %s', async (_name, offset, status) => {
    const { server, stripe } = await invitation();
    server.clock.now = new Date(START.getTime() + 999);
    const payload = JSON.stringify(stripe.created());
    const answer = await deliverRaw(server.app, payload, sign(payload, seconds(offset)));
    expect(answer.statusCode).toBe(status);
    expect(await server.db.subscription.count()).toBe(status === 200 ? 1 : 0);
  });
});

describe('test and live mode', () => {
  test.each([
    ['a test event on a live server', 'sk_live_x', false],
    ['a test event on a live server', 'rk_live_x', false],
    ['a live event on a test server', 'sk_test_x', true],
    ['a live event on a test server', 'rk_test_x', true],
  ])(
    '%s (%s) is ignored with that reason, whatever its type, and changes nothing',
    async (reason, key, livemode) => {
      const { server, stripe } = await invitation({ STRIPE_API_KEY: key });
      const before = await domainRows(server);
      for (const event of everything(stripe)) {
        expect((await deliver(server, { ...event, livemode })).json()).toEqual({ status: 'ignored', reason });
      }
      expect(await domainRows(server)).toEqual(before);
      expect(await server.db.event.count({ where: { status: 'ignored', reason } })).toBe(
        everything(stripe).length,
      );
    },
  );

  test.each([
    ['a live event on a live server', 'sk_live_x', true],
    ['a test event on a test server', 'sk_test_x', false],
    ['a live event when no key says which mode this server is in', '', true],
    ['a test event when no key says which mode this server is in', '', false],
    ['an event that does not say its mode, on a live server', 'sk_live_x', undefined],
  ])('%s is applied', async (_name, key, livemode) => {
    const { server, friend, stripe } = await invitation({ STRIPE_API_KEY: key });
    await deliverAll(
      server,
      [stripe.checkoutCompleted(), stripe.created()].map((event) => ({ ...event, livemode })),
    );
    expect(await userRow(server, friend.id)).toMatchObject({ tier: 'paid' });
  });
});

describe('events that are not about our users', () => {
  test('events of a connected account are ignored with a reason that names it, and change nothing', async () => {
    const { server, stripe } = await invitation();
    const before = await domainRows(server);
    for (const event of everything(stripe)) {
      expect((await deliver(server, { ...event, account: 'acct_1' })).json()).toEqual({
        status: 'ignored',
        reason: 'an event of the connected account acct_1',
      });
    }
    expect(await domainRows(server)).toEqual(before);
    await deliverAll(server, [{ ...stripe.created(), account: null }]);
  });

  test("of another product's customer in the same account are kept as facts, and change nothing for anybody", async () => {
    const { server, friend, referrer, stripe } = await invitation();
    await deliverAll(server, [stripe.checkoutCompleted(), stripe.created(), stripe.invoicePaid()]);
    const { users, referrals, credit, audit } = await domainRows(server);
    const other = buyer('order-4711');
    const dispute = other.dispute(START);
    await deliverAll(server, [
      other.created({ metadata: { userId: friend.id } }),
      other.invoicePaid(),
      other.invoicePaymentPaid(),
      dispute.opened(),
      dispute.lost(seconds(1)),
      other.chargeRefunded(),
      other.ended(seconds(2)),
    ]);
    const after = await domainRows(server);
    expect(after).toMatchObject({ users, referrals, credit, audit });
    expect(after.customers).toContainEqual({
      id: other.customer,
      userId: null,
      deletedAt: null,
      linkedAt: null,
      missingAt: null,
    });
    expect(await server.db.subscription.findUnique({ where: { id: other.subscription } })).toMatchObject({
      status: 'canceled',
    });
    for (const { id } of [friend, referrer]) await userRow(server, id);
  });

  test.each([
    ['that is not one of ours', 'order-4711', {}],
    ['that looks like a path', '../../settings', {}],
    ['in its metadata that is not one of ours', null, { userId: '42' }],
    ['to a customer only', null, {}],
  ])('a checkout with a reference %s is ignored', async (_name, client_reference_id, metadata) => {
    const { server, stripe } = await invitation();
    const before = await domainRows(server);
    const answer = await deliver(server, stripe.checkoutCompleted({ client_reference_id, metadata }));
    expect(answer.json()).toEqual({
      status: 'ignored',
      reason: 'the checkout session names none of our users',
    });
    expect(await domainRows(server)).toEqual(before);
  });

  test('a checkout that names two of our users is ignored', async () => {
    const { server, referrer, stripe } = await invitation();
    const before = await domainRows(server);
    const answer = await deliver(server, stripe.checkoutCompleted({ metadata: { userId: referrer.id } }));
    expect(answer.json()).toEqual({
      status: 'ignored',
      reason: 'the checkout session names two of our users',
    });
    expect(await domainRows(server)).toEqual(before);
  });

  test('a checkout of a user who is only a tombstone is ignored', async () => {
    const { server, friend, stripe } = await invitation();
    await makeTombstone(server, friend);
    expect((await deliver(server, stripe.checkoutCompleted())).json()).toMatchObject({ status: 'ignored' });
    expect(await server.db.customer.count()).toBe(0);
  });
});

describe("when Stripe's clock and ours differ", () => {
  test.each([
    ['an hour in our future', HOUR],
    ['an hour in our past', -HOUR],
  ])(
    'events %s: the grant and what follows it are dated by our clock, to the second',
    async (_name, skew) => {
      const { server, friend, referrer, stripe } = await invitation();
      const at = { at: seconds(skew) };
      await deliverAll(server, [
        stripe.checkoutCompleted({}, at),
        stripe.created({}, at),
        stripe.invoicePaid({}, at),
        stripe.invoicePaymentPaid({}, at),
      ]);
      expect(await userRow(server, friend.id)).toMatchObject({
        tier: 'paid',
        creditUntil: daysAfter(45),
        creditHeldAt: START,
      });
      expect(await userRow(server, referrer.id)).toMatchObject({ creditUntil: daysAfter(45) });

      server.clock.now = daysAfter(10);
      await deliverAll(server, [
        stripe.chargeRefunded({}, { at: new Date(daysAfter(10).getTime() + skew * 1000) }),
      ]);
      expect(await userRow(server, friend.id)).toMatchObject({ creditUntil: daysAfter(10) });
      expect(await userRow(server, referrer.id)).toMatchObject({ creditUntil: daysAfter(10) });
    },
  );

  test('a subscription that ended an hour in our future: credit runs from now', async () => {
    const { server, friend, stripe } = await invitation();
    await deliverAll(server, [stripe.checkoutCompleted(), stripe.created()]);
    server.clock.now = daysAfter(10);
    await deliverAll(server, [stripe.ended(new Date(daysAfter(10).getTime() + HOUR * 1000))]);
    expect(await userRow(server, friend.id)).toMatchObject({
      tier: 'free',
      creditUntil: daysAfter(55),
      creditHeldAt: null,
      creditEntryAt: daysAfter(10),
    });
  });

  test('a subscription that ended an hour before the last ledger entry: credit runs from that entry', async () => {
    const { server, friend, stripe } = await invitation();
    await deliverAll(server, [stripe.checkoutCompleted(), stripe.created()]);
    server.clock.now = seconds(60);
    await deliverAll(server, [stripe.ended(seconds(-HOUR))]);
    expect(await userRow(server, friend.id)).toMatchObject({
      tier: 'free',
      creditUntil: daysAfter(45),
      creditHeldAt: null,
      creditEntryAt: START,
    });
  });

  test('setting our clock back by an hour between two events does not put ledger entries out of order', async () => {
    const { server, friend, referrer, stripe } = await invitation();
    await deliverAll(server, [stripe.checkoutCompleted(), stripe.created(), stripe.invoicePaid()]);
    server.clock.now = seconds(-HOUR);
    await deliverAll(server, [stripe.invoicePaymentPaid(), stripe.chargeRefunded()]);
    expect(await userRow(server, friend.id)).toMatchObject({ creditUntil: START, creditEntryAt: START });
    expect(await userRow(server, referrer.id)).toMatchObject({ creditUntil: START, creditEntryAt: START });
    await deliverAll(server, [stripe.ended(START)]);
    expect(await userRow(server, friend.id)).toMatchObject({ tier: 'free', creditEntryAt: START });
  });

  test("the snapshots of a subscription are ordered by Stripe's clock, whatever ours says", async () => {
    const { server, friend, stripe } = await invitation();
    await deliverAll(server, [
      stripe.checkoutCompleted(),
      stripe.created({}, { at: seconds(HOUR) }),
      stripe.updated({ status: 'unpaid' }, { at: seconds(HOUR + 10) }),
    ]);
    const late = stripe.updated({}, { at: seconds(HOUR + 5) });
    server.clock.now = seconds(2 * HOUR);
    expect((await deliver(server, late)).json()).toMatchObject({ status: 'ignored' });
    expect(await userRow(server, friend.id)).toMatchObject({ tier: 'free' });
  });
});

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

describe('customer.updated', () => {
  test('changes nothing, and its personal data is in no table but the event ledger', async () => {
    const { server, friend, stripe } = await invitation();
    await deliverAll(server, [stripe.checkoutCompleted(), stripe.created()]);
    const before = await domainRows(server);
    const object = { id: stripe.customer, object: 'customer', email: 'elsewhere@example.com', name: 'Ann' };
    const answer = await deliver(
      server,
      stripeEvent('customer.updated', object, { at: seconds(5), previous: { email: 'friend@example.com' } }),
    );
    expect(answer.json()).toEqual({
      status: 'ignored',
      reason: 'Tandem stores nothing that a customer update can change',
    });
    expect(await domainRows(server)).toEqual(before);
    expect(await userRow(server, friend.id)).toMatchObject({ email: 'friend@example.com' });
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
