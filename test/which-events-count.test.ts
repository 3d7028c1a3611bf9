import { describe, expect, test } from 'vitest';

import { everyType } from './support/every-type.ts';
import { invitation } from './support/invited-friend.ts';
import {
  daysAfter,
  deliver,
  deliverAll,
  deliverRaw,
  domainRows,
  makeTombstone,
  sign,
  START,
  userRow,
  WEBHOOK_SECRET,
} from './support/server.ts';
import type { TestServer } from './support/server.ts';
import { buyer, stripeEvent } from './support/stripe-events.ts';

const NEXT_SECRET = 'whsec_next';
const seconds = (n: number): Date => new Date(START.getTime() + n * 1000);

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
    const { server, friend, stripe } = await invitation({ STRIPE_WEBHOOK_SECRET: NEXT_SECRET });
    const before = await domainRows(server);
    for (const event of everyType(stripe, friend.id)) {
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
      const { server, friend, stripe } = await invitation({ STRIPE_API_KEY: key });
      const before = await domainRows(server);
      const events = everyType(stripe, friend.id);
      for (const event of events) {
        expect((await deliver(server, { ...event, livemode })).json()).toEqual({ status: 'ignored', reason });
      }
      expect(await domainRows(server)).toEqual(before);
      expect(await server.db.event.count({ where: { status: 'ignored', reason } })).toBe(events.length);
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

async function expectIgnored(server: TestServer, event: object, reason: string): Promise<void> {
  const before = await domainRows(server);
  expect((await deliver(server, event)).json()).toEqual({ status: 'ignored', reason });
  expect(await domainRows(server)).toEqual(before);
}

describe('events that are not about our users', () => {
  test('events of a connected account are ignored with a reason that names it, and change nothing', async () => {
    const { server, friend, stripe } = await invitation();
    const before = await domainRows(server);
    for (const event of everyType(stripe, friend.id)) {
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
      ours: false,
      retiredAt: null,
      balanceTo: null,
      balanceMovedAt: null,
      balanceTries: 0,
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
    const event = stripe.checkoutCompleted({ client_reference_id, metadata });
    await expectIgnored(server, event, 'the checkout session names none of our users');
  });

  test('a checkout that names two of our users is ignored', async () => {
    const { server, referrer, stripe } = await invitation();
    const event = stripe.checkoutCompleted({ metadata: { userId: referrer.id } });
    await expectIgnored(server, event, 'the checkout session names two of our users');
  });

  test('a checkout of a user who is only a tombstone is ignored', async () => {
    const { server, friend, stripe } = await invitation();
    await makeTombstone(server, friend);
    expect((await deliver(server, stripe.checkoutCompleted())).json()).toMatchObject({ status: 'ignored' });
    expect(await server.db.customer.count()).toBe(0);
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
