import { describe, expect, test } from 'vitest';

import { readConfig } from '../src/config.ts';
import type { OutboxItem } from '../src/db/generated/client.ts';
import { readMailFacts } from '../src/outbox/facts.ts';
import type { MailWork } from '../src/outbox/kinds.ts';
import { findings } from './support/findings.ts';
import { invitedFriend } from './support/invited-friend.ts';
import {
  DAY,
  daysAfter,
  deleteAccount,
  deliver,
  signUp,
  startTestServer,
  userRow,
} from './support/server.ts';
import type { TestServer } from './support/server.ts';
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
import { buyer } from './support/stripe-events.ts';

const OURS = 'prod_ours';
const ENV = { STRIPE_PRODUCTS: `prod_also_ours, ${OURS}` };

const item = (product: unknown, id = 'price_m') => ({
  price: { id, product, unit_amount: 900 },
  current_period_end: 1_800_000_000,
});
const of = (...products: unknown[]) => ({ items: { data: products.map((product) => item(product)) } });

async function invited(env: NodeJS.ProcessEnv = ENV) {
  const server = await startTestServer(env);
  const { friend, stripe } = await invitedFriend(server);
  const hear = async (day: number, ...events: object[]): Promise<void> => {
    server.clock.now = daysAfter(day);
    for (const event of events) expect((await deliver(server, event)).statusCode).toBe(200);
  };
  const state = async () => {
    const { tier } = await userRow(server, friend.id);
    const referral = await server.db.referral.findUniqueOrThrow({ where: { referredId: friend.id } });
    return { tier, converted: referral.convertedAt !== null, reversed: referral.reversedAt !== null };
  };
  return { server, friend, stripe, hear, state };
}

/** The checks of `doctor` that find something. */
async function failedChecks(server: TestServer): Promise<string[]> {
  return (await findings(server)).map(({ check }) => check);
}

const PAID = { tier: 'paid', converted: true, reversed: false };
const NOTHING = { tier: 'free', converted: false, reversed: false };

describe('STRIPE_PRODUCTS', () => {
  test('takes product ids separated by commas, and nothing else', () => {
    const key = { STRIPE_API_KEY: 'sk_test_1' };
    expect(readConfig({ ...ENV, ...key }).stripe.products).toEqual(['prod_also_ours', OURS]);
    expect(readConfig(key).stripe.products).toBeNull();
    // The sandbox sells a product of its own.
    expect(readConfig(ENV).stripe.products).toBeNull();
    expect(() => readConfig({ STRIPE_PRODUCTS: 'price_m' })).toThrow(
      'STRIPE_PRODUCTS must be the comma-separated ids of products at Stripe (prod_…).',
    );
  });

  test('a subscription to a product of STRIPE_PRODUCTS counts, whatever the shape of its product field', async () => {
    for (const product of [OURS, { id: OURS, object: 'product' }]) {
      const { stripe, hear, state } = await invited();
      await hear(0, stripe.checkoutCompleted(), stripe.created(of(product)), stripe.invoicePaid());
      expect(await state()).toEqual(PAID);
    }
  });

  test.each([
    ['another one', of('prod_other')],
    ['none', of(undefined)],
    ['no item at all', { items: { data: [] } }],
  ])('a subscription to %s makes nobody paid and converts nothing', async (_name, fields) => {
    const { server, friend, stripe, hear, state } = await invited();
    await hear(0, stripe.checkoutCompleted(), stripe.created(fields));
    await hear(0, stripe.invoicePaid(), stripe.invoicePaymentPaid());
    await hear(20, stripe.updated({ ...fields, status: 'past_due' }, { at: daysAfter(20) }));
    expect(await state()).toEqual(NOTHING);
    const me = await server.app.inject({ url: '/api/me', headers: { cookie: friend.cookie } });
    expect(me.json()).toMatchObject({ tier: 'free', subscription: null, access: { granted: false } });
    expect(await failedChecks(server)).toEqual([]);
  });

  test('a subscription counts when one of its items is of a product of STRIPE_PRODUCTS', async () => {
    const { stripe, hear, state } = await invited();
    await hear(0, stripe.checkoutCompleted(), stripe.created(of('prod_other', OURS)));
    expect(await state()).toEqual(PAID);
  });

  test('without STRIPE_PRODUCTS every product counts', async () => {
    const { stripe, hear, state } = await invited({});
    await hear(0, stripe.checkoutCompleted(), stripe.created(of('prod_other')));
    expect(await state()).toEqual(PAID);
  });

  test('the newest snapshot decides the tier, and a subscription that once counted stays proof of payment', async () => {
    const { stripe, hear, state } = await invited();
    await hear(0, stripe.checkoutCompleted(), stripe.created(of(OURS)), stripe.invoicePaid());
    await hear(10, stripe.updated(of('prod_other'), { at: daysAfter(10) }));
    expect(await state()).toEqual({ tier: 'free', converted: true, reversed: false });
    await hear(20, stripe.updated(of(OURS), { at: daysAfter(20) }));
    expect(await state()).toEqual(PAID);
  });

  test('credit runs while the subscription is to another product', async () => {
    const { server, friend, stripe, hear } = await invited();
    await hear(0, stripe.checkoutCompleted(), stripe.created(of(OURS)), stripe.invoicePaid());
    await hear(12, stripe.updated(of('prod_other'), { at: daysAfter(10) }));
    expect(await userRow(server, friend.id)).toMatchObject({
      creditUntil: daysAfter(55),
      creditHeldAt: null,
    });
  });

  test('a subscription that changes from another product to ours converts at that moment', async () => {
    const { stripe, hear, state } = await invited();
    await hear(0, stripe.checkoutCompleted(), stripe.created(of('prod_other')), stripe.invoicePaid());
    await hear(10, stripe.updated(of(OURS), { at: daysAfter(10) }));
    expect(await state()).toEqual(PAID);
  });

  test('a payment proves nothing until a snapshot says what it was for', async () => {
    for (const [product, then] of [
      [OURS, PAID],
      ['prod_other', NOTHING],
    ] as const) {
      const { stripe, hear, state } = await invited();
      await hear(0, stripe.checkoutCompleted(), stripe.invoicePaid(), stripe.invoicePaymentPaid());
      expect(await state()).toEqual(NOTHING);
      await hear(1, stripe.created(of(product)));
      expect(await state()).toEqual(then);
    }
  });

  test('a late snapshot shows that the subscription once counted, and changes no tier', async () => {
    const { stripe, hear, state } = await invited();
    await hear(10, stripe.checkoutCompleted(), stripe.updated(of('prod_other'), { at: daysAfter(10) }));
    await hear(11, stripe.created(of(OURS)));
    expect(await state()).toEqual({ tier: 'free', converted: true, reversed: false });
  });

  test('the payment for another product returns no reversed days', async () => {
    const { friend, stripe, hear, state } = await invited();
    await hear(0, stripe.checkoutCompleted(), stripe.created(of(OURS)));
    await hear(0, stripe.invoicePaid(), stripe.invoicePaymentPaid());
    await hear(10, stripe.chargeRefunded({}, { at: daysAfter(10) }), stripe.ended(daysAfter(10), of(OURS)));
    const other = buyer(friend.id);
    await hear(20, other.checkoutCompleted(), other.created(of('prod_other')), other.invoicePaid());
    expect(await state()).toEqual({ tier: 'free', converted: true, reversed: true });
  });

  test('rows from before STRIPE_PRODUCTS was set count until a snapshot says otherwise', async () => {
    const before = await invited({});
    const { stripe } = before;
    await before.hear(0, stripe.checkoutCompleted(), stripe.created(of('prod_other')), stripe.invoicePaid());
    const { databaseUrl, clock } = before.server;
    const server = await startTestServer({ ...ENV, DATABASE_URL: databaseUrl }, clock);
    expect(await failedChecks(server)).toEqual([]);
    expect(await before.state()).toEqual(PAID);
    const event = stripe.updated(of('prod_other'), { at: daysAfter(31) });
    expect((await deliver(server, event)).json()).toEqual({ status: 'ok' });
    expect(await before.state()).toEqual({ tier: 'free', converted: true, reversed: false });
  });
});

describe('STRIPE_PRODUCTS with the stand-in for Stripe', () => {
  async function world() {
    const world = await startWorld({ STRIPE_PRODUCTS: 'prod_sandbox', STRIPE_TRIAL_DAYS: '3' });
    const person = await signUp(world, 'person@example.com');
    const session = await world.merchant.checkout.sessions.create({
      mode: 'subscription',
      client_reference_id: person.id,
      line_items: [{ price: 'price_other', quantity: 1 }],
      subscription_data: { trial_period_days: 7 },
      success_url: 'http://another-product.test/',
    });
    world.sandbox.acts.pay(session.id);
    return { world, person };
  }

  test('Upgrade sells a plan, with the trial, to a subscriber of another product', async () => {
    const { world: server, person } = await world();
    await deliverWaiting(server);
    expect(await userRow(server, person.id)).toMatchObject({ tier: 'free' });
    expect(await pressUpgrade(server, person)).toContain('/checkout/');
    const orders = [...server.sandbox.objects.checkouts.values()];
    expect(orders.at(-1)).toMatchObject({ amount_total: 0, status: 'open' });
  });

  /** A user whose plan is of a product that counted when they bought it and no longer does. */
  async function planOfYesterday() {
    const before = await startWorld();
    const person = await signUp(before, 'person@example.com');
    await subscribe(before, person);
    const env = { STRIPE_API_KEY: before.config.stripe.apiKey ?? '', STRIPE_API_BASE: before.sandbox.url };
    const sold = { STRIPE_PRODUCTS: 'prod_other', DATABASE_URL: before.databaseUrl };
    const after = async () => ({ ...before, ...(await startTestServer({ ...env, ...sold }, before.clock)) });
    return { before, after, person };
  }

  test('Upgrade sells a current plan to somebody whose own plan is for a product that is no longer sold', async () => {
    const { before, after: restart, person } = await planOfYesterday();
    const after = await restart();
    for (const event of before.sandbox.objects.events.values()) await deliver(after, event);
    expect(await userRow(after, person.id)).toMatchObject({ tier: 'free' });
    expect(await pressUpgrade(after, person)).toContain('/checkout/');
  });

  test('an email about a failed payment does not take a subscription to another product for a plan', async () => {
    const { server, friend, stripe, hear } = await invited();
    const other = buyer(friend.id);
    await hear(0, stripe.checkoutCompleted(), stripe.created(of(OURS)));
    await hear(0, other.checkoutCompleted(), other.created(of('prod_other')));
    const data = { invoiceId: 'in_1', nextAttempt: null };
    const plan = async (): Promise<string> => {
      const item = { id: 'mail_1', kind: 'mail.payment-failed', userId: friend.id, data: '{}' } as OutboxItem;
      const work = { kind: 'mail.payment-failed', data } as MailWork;
      return (await readMailFacts(server.db, item, work)).plan;
    };
    expect(await plan()).toBe('live');
    await hear(1, stripe.ended(daysAfter(1), of(OURS)));
    expect(await plan()).toBe('ended');
  });

  test('deleting the account cancels our plan, not the subscription to another product', async () => {
    const { world: server, person } = await world();
    await deliverWaiting(server);
    const ours = await subscribe(server, person);
    await deliverWaiting(server);
    expect((await deleteAccount(server, person)).statusCode).toBe(303);
    const { subscriptions } = server.sandbox.objects;
    expect([...subscriptions.values()].map(({ id, status }) => [id === ours, status])).toEqual([
      [false, 'trialing'],
      [true, 'canceled'],
    ]);
  });

  test('deleting the account cancels a plan that counted when it was bought', async () => {
    const { before, after, person } = await planOfYesterday();
    await deliverWaiting(before);
    await deleteAccount(await after(), person);
    expect([...before.sandbox.objects.subscriptions.values()].map(({ status }) => status)).toEqual([
      'canceled',
    ]);
  });

  test('Upgrade to another plan drops a pending first payment of ours, and none for another product', async () => {
    const server = await startWorld({ STRIPE_PRODUCTS: 'prod_sandbox' });
    const person = await signUp(server, 'person@example.com');
    const ours = await subscribe(server, person, { outcome: 'incomplete' });
    const [customer = ''] = server.sandbox.objects.customers.keys();
    const session = await server.merchant.checkout.sessions.create({
      mode: 'subscription',
      customer,
      line_items: [{ price: 'price_other', quantity: 1 }],
      success_url: 'http://another-product.test/',
    });
    server.sandbox.acts.pay(session.id, { outcome: 'incomplete' });
    await pressUpgrade(server, person, 'annual');
    const { subscriptions } = server.sandbox.objects;
    expect([...subscriptions.values()].map(({ id, status }) => [id === ours, status])).toEqual([
      [true, 'canceled'],
      [false, 'incomplete'],
    ]);
  });

  test('reconcile makes nobody paid by a subscription to another product', async () => {
    const { world: server, person } = await world();
    await passTime(server, 40 * DAY);
    dropWaiting(server);
    await reconcileWorld(server);
    expect(await userRow(server, person.id)).toMatchObject({ tier: 'free' });
    expect(await failedChecks(server)).toEqual([]);
    expect((await reconcileWorld(server)).differences).toEqual([]);
  });

  test('reconcile proves a payment of ours that no event reported', async () => {
    const server = await startWorld({ STRIPE_PRODUCTS: 'prod_sandbox' });
    const { friend } = await invitedFriend(server);
    server.sandbox.acts.pay(sessionIdOf(await pressUpgrade(server, friend, 'annual')));
    await passTime(server, 40 * DAY);
    dropWaiting(server);
    await reconcileWorld(server);
    expect(await userRow(server, friend.id)).toMatchObject({ tier: 'paid' });
    expect(await server.db.referral.findFirst()).toMatchObject({
      convertedAt: daysAfter(40),
      reversedAt: null,
    });
    expect(await failedChecks(server)).toEqual([]);
  });
});
