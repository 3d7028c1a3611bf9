import { describe, expect, test, vi } from 'vitest';

import { errorForLog } from '../src/http/errors.ts';
import { readablePath } from '../src/http/readable-path.ts';
import { invitation } from './support/invited-friend.ts';
import {
  daysAfter,
  deliver,
  deliverAll,
  deliverRaw,
  domainRows,
  postForm,
  referralOf,
  sign,
  signUp,
  START,
  startTestServer,
  userRow,
} from './support/server.ts';
import { buyer, stripeEvent } from './support/stripe-events.ts';

/** It fits into a webhook but exceeds any database index. */
const HUGE = 'x'.repeat(300_000);
const NUL = 'a\0b';
const HALF = 'a\ud800b';

describe('a dispute without an id', () => {
  test('uses the id of its charge: it takes the credit when it is lost, and gives it back when it is won', async () => {
    const server = await startTestServer();
    const referrer = await signUp(server, 'referrer@example.com');
    const friend = await signUp(server, 'friend@example.com', referrer.code);
    const stripe = buyer(friend.id);
    const dispute = stripe.dispute(START, { id: undefined });
    await deliverAll(server, [
      stripe.checkoutCompleted(),
      stripe.created(),
      stripe.invoicePaid(),
      stripe.invoicePaymentPaid(),
      dispute.opened(),
    ]);
    server.clock.now = daysAfter(3);
    await deliverAll(server, [dispute.lost(daysAfter(3))]);
    expect(await server.db.dispute.findMany()).toMatchObject([{ id: stripe.charge, status: 'lost' }]);
    expect(await userRow(server, referrer.id)).toMatchObject({ creditUntil: daysAfter(3) });
    await deliverAll(server, [dispute.wonAfterAll(daysAfter(3))]);
    expect(await userRow(server, referrer.id)).toMatchObject({ creditUntil: daysAfter(45) });
  });

  test('and without a payment is ignored', async () => {
    const server = await startTestServer();
    const none = { id: undefined, charge: null, payment_intent: null };
    await deliverAll(server, [buyer().dispute(START, none).opened()], 'ignored');
    expect(await server.db.dispute.count()).toBe(0);
  });
});

test('a thin event is 400, and the answer says that it is one', async () => {
  const server = await startTestServer();
  const thin = {
    id: 'evt_thin',
    object: 'v2.core.event',
    type: 'v1.customer.created',
    livemode: false,
    created: '2027-01-10T09:00:00.000Z',
    related_object: { id: 'cus_1', type: 'customer', url: '/v1/customers/cus_1' },
  };
  const answer = await deliver(server, thin);
  expect(answer.statusCode).toBe(400);
  expect(answer.json<{ error: string }>().error).toMatch(/thin event.*snapshot events/);
  expect(await server.db.event.count()).toBe(0);
});

describe('an event with an invalid field', () => {
  test.each([
    ['created beyond the range of dates', { created: 9_007_199_254_740_991 }],
    ['created after the year 9999', { created: 253_402_300_800 }],
    ['created before 1970', { created: -1 }],
    ['created with a fraction of a second', { created: 1.5 }],
    ['created as text', { created: '2027-01-10T09:00:00Z' }],
    ['livemode as text', { livemode: 'no' }],
    ['an account that is not text', { account: 7 }],
    ['an account of hundreds of kilobytes', { account: HUGE }],
    ['an account with a NUL in it', { account: NUL }],
    [
      'previous_attributes that are not an object',
      { data: { object: { id: 'sub_1' }, previous_attributes: 'none' } },
    ],
  ])('is kept as failed and answered 5xx: %s', async (_name, wrong) => {
    const server = await startTestServer();
    const friend = await signUp(server, 'friend@example.com');
    const before = await domainRows(server);
    const event = { ...buyer(friend.id).created(), ...wrong };
    for (let time = 1; time <= 2; time += 1) {
      const answer = await deliver(server, event);
      expect(answer.statusCode).toBe(500);
      expect(answer.json<{ error: string }>().error).toMatch(/it is recorded/);
    }
    const row = await server.db.event.findUniqueOrThrow({ where: { id: event.id } });
    expect(row).toMatchObject({ status: 'failed', payload: JSON.stringify(event), created: START });
    expect(row.error).toMatch(/^Stripe sent an object of an unknown shape: .{10,300}$/);
    expect(await domainRows(server)).toEqual(before);
  });

  test.each([
    ['an id of hundreds of kilobytes', { id: HUGE }],
    ['an id with a NUL in it', { id: NUL }],
    ['an id with half a surrogate pair in it', { id: HALF }],
    ['a type of hundreds of kilobytes', { type: HUGE }],
    ['a type with a NUL in it', { type: NUL }],
    ['a type with half a surrogate pair in it', { type: HALF }],
  ])('an event with %s cannot be recorded and is 400', async (_name, wrong) => {
    const server = await startTestServer();
    const answer = await deliver(server, { ...buyer().created(), ...wrong });
    expect(answer.statusCode).toBe(400);
    expect(answer.json<{ error: string }>().error).toMatch(/^the body is not a Stripe event/);
    expect(await server.db.event.count()).toBe(0);
  });

  const stripe = buyer();
  test.each([
    ['the id of a subscription', (text: string) => stripe.created({ id: text })],
    ['the status of a subscription', (text: string) => stripe.created({ status: text })],
    ['the customer of a subscription', (text: string) => stripe.created({ customer: text })],
    [
      'the price of a subscription',
      (text: string) => stripe.created({ items: { data: [{ price: { id: text } }] } }),
    ],
    ['the customer of a checkout', (text: string) => stripe.checkoutCompleted({ customer: text })],
    ['the id of an invoice', (text: string) => stripe.invoicePaid({ id: text })],
    ['the customer of an invoice', (text: string) => stripe.invoicePaid({ customer: { id: text } })],
    ['the invoice of a payment', (text: string) => stripe.invoicePaymentPaid({ invoice: text })],
    ['the payment of a charge', (text: string) => stripe.chargeRefunded({ payment_intent: text })],
    ['the payment of a refund', (text: string) => stripe.refundFailed({ payment_intent: text })],
    ['the id of a dispute', (text: string) => stripe.dispute(START, { id: text }).opened()],
    ['the status of a dispute', (text: string) => stripe.dispute(START, { status: text }).opened()],
    ['the id of a customer', (text: string) => stripeEvent('customer.deleted', { id: text })],
  ])('is kept as failed when a text is too long or cannot be stored: %s', async (_name, eventWith) => {
    const server = await startTestServer();
    for (const text of [HUGE, NUL, HALF]) {
      const event = eventWith(text);
      expect((await deliver(server, event)).statusCode).toBe(500);
      const row = await server.db.event.findUniqueOrThrow({ where: { id: event.id } });
      expect(row).toMatchObject({ status: 'failed' });
      expect(row.error?.length).toBeLessThan(300);
    }
    expect(await server.db.customer.count()).toBe(0);
    expect(await server.db.payment.count()).toBe(0);
    // The server still applies events.
    await deliverAll(server, [buyer().created()]);
  });

  test('a checkout reference that is too long or cannot be stored names no user', async () => {
    const server = await startTestServer();
    const friend = await signUp(server, 'friend@example.com');
    for (const text of [HUGE, NUL, HALF]) {
      await deliverAll(server, [buyer().checkoutCompleted({ client_reference_id: text })], 'ignored');
    }
    const checkout = buyer(friend.id).checkoutCompleted({ metadata: { userId: NUL } });
    await deliverAll(server, [checkout]);
  });

  test("another product's reference does not keep an invited friend's checkout from linking", async () => {
    const { server, friend, stripe } = await invitation();
    // Sorts before every id of ours.
    const checkout = stripe.checkoutCompleted({
      client_reference_id: '!1042',
      metadata: { userId: friend.id },
    });
    await deliverAll(server, [checkout, stripe.created()]);
    expect(await referralOf(server, friend)).toMatchObject({ convertedAt: expect.any(Date) as Date });
  });
});

describe('an empty id counts as absent', () => {
  const stripe = buyer();
  const invoicePayment = (payment: object) => stripe.invoicePaymentPaid({ payment });
  const item = (price: object) => ({ items: { data: [{ price }] } });

  test.each<[string, (none: unknown) => { id: string }]>([
    ['the id of a dispute', (none) => stripe.dispute(START, { id: none }).opened()],
    [
      'the payment of a dispute',
      (none) => stripe.dispute(START, { id: 'du_1', payment_intent: none }).opened(),
    ],
    [
      'both the charge and the payment of a dispute',
      (none) => stripe.dispute(START, { id: none, charge: none, payment_intent: none }).opened(),
    ],
    ['the payment of a charge', (none) => stripe.chargeRefunded({ payment_intent: none })],
    ['the invoice of a charge', (none) => stripe.chargeRefunded({ invoice: none })],
    ['the payment of a refund', (none) => stripe.refundFailed({ payment_intent: none })],
    ['the charge of a refund', (none) => stripe.refundFailed({ payment_intent: none, charge: none })],
    ['the customer of a subscription', (none) => stripe.created({ customer: none })],
    ['the test clock of a subscription', (none) => stripe.created({ test_clock: none })],
    ['the price of a subscription', (none) => stripe.created(item({ id: none, unit_amount: 900 }))],
    ['the product of a subscription', (none) => stripe.created(item({ id: 'price_m', product: none }))],
    ['the discount of a subscription', (none) => stripe.created({ discount: none })],
    ['the customer of an invoice', (none) => stripe.invoicePaid({ customer: none })],
    ['the payment of an invoice', (none) => stripe.invoicePaid({ payment_intent: none, charge: 'ch_1' })],
    ['the charge of an invoice', (none) => stripe.invoicePaid({ charge: none })],
    [
      'the subscription of an invoice',
      (none) =>
        stripe.invoicePaid({
          parent: { subscription_details: { subscription: none } },
          subscription: stripe.subscription,
        }),
    ],
    [
      'the payment that an invoice is tied to',
      (none) => invoicePayment({ payment_intent: none, charge: 'ch_1' }),
    ],
    [
      'everything that an invoice is tied to',
      (none) => invoicePayment({ payment_intent: none, charge: none }),
    ],
    ['the customer of a checkout', (none) => stripe.checkoutCompleted({ customer: none })],
    ['the subscription of a checkout', (none) => stripe.checkoutCompleted({ subscription: none })],
    ['the reference of a checkout', (none) => stripe.checkoutCompleted({ client_reference_id: none })],
    ['the account of an event', (none) => ({ ...stripe.created(), account: none })],
  ])('%s', async (_name, eventWith) => {
    const outcomes: unknown[] = [];
    for (const none of [null, '']) {
      const server = await startTestServer();
      const answer = await deliver(server, { ...eventWith(none), id: 'evt_1' });
      outcomes.push([answer.statusCode, answer.json(), await domainRows(server)]);
    }
    expect(outcomes[1]).toEqual(outcomes[0]);
  });

  test('inside an expanded object', async () => {
    const server = await startTestServer();
    await deliverAll(server, [stripe.created({ customer: { id: '' } })], 'ignored');
    await deliverAll(server, [stripe.chargeRefunded({ payment_intent: { id: '' } })]);
    expect(await server.db.payment.findMany()).toMatchObject([{ id: stripe.charge }]);
  });

  test('in a list of discounts', async () => {
    const server = await startTestServer();
    await deliverAll(server, [stripe.created({ discounts: [''] })]);
    expect(await server.db.subscription.findFirst()).toMatchObject({ doubtAt: null, provenAt: START });
  });
});

test('very many faults in one object are kept as one short line', async () => {
  const server = await startTestServer();
  const items = { data: Array.from({ length: 20_000 }, () => ({ price: 7, current_period_end: 'never' })) };
  const event = buyer().created({ items });
  expect((await deliver(server, event)).statusCode).toBe(500);
  const row = await server.db.event.findUniqueOrThrow({ where: { id: event.id } });
  expect(row.error).toMatch(/^[^\n]{1,1100}$/);
});

describe('what is logged of an error', () => {
  test('is prepared in linear time, and is short', () => {
    // At this length, anything slower than linear would time out.
    for (const text of [HUGE, `${HUGE}@`, ` ${'x@'.repeat(150_000)}`, ' '.repeat(300_000)]) {
      expect(JSON.stringify(errorForLog(new Error(text))).length).toBeLessThan(10_000);
      expect(JSON.stringify(errorForLog(text)).length).toBeLessThan(10_000);
    }
  });

  test('a logged error holds no address, however long', () => {
    const address = `${'x'.repeat(300)}@${'y.'.repeat(200)}example`;
    const told = errorForLog(new Error(`Of ann@example.com, <${address}> and "b@c" nothing.`));
    expect(told).toMatchObject({ message: 'Of (an address), <(an address)> and "(an address)" nothing.' });
    // Not even a part of an address where the message is cut.
    expect(JSON.stringify(errorForLog(`${'- '.repeat(998)} ann.of.the.${address}`))).not.toContain('ann');
  });
});

test('a URL with a NUL in it finds nothing', async () => {
  const server = await startTestServer();
  const { cookie } = await signUp(server, 'ann@example.com');
  for (const url of ['/%00', '/r/%00', '/reset/%00', '/public/%00', '/api/backups/%00', '/pricing?ref=%00']) {
    const { statusCode } = await server.app.inject({ url, headers: { cookie } });
    expect([url, statusCode]).toEqual([
      url,
      url.startsWith('/pricing') ? 200 : url.startsWith('/r/') ? 303 : 404,
    ]);
  }
  for (const path of [
    '/api/backups/%00/restore',
    '/portfolio/backups/%00/delete',
    '/portfolio/backups/a%00b/delete',
  ]) {
    expect((await postForm(server.app, path, {}, cookie)).statusCode).toBe(404);
  }
  const deleted = await server.app.inject({ method: 'DELETE', url: '/api/backups/%00', headers: { cookie } });
  expect(deleted.statusCode).toBe(404);
});

test('a sign-up or login with a NUL, half a surrogate pair or a long text in its address is 400', async () => {
  const server = await startTestServer();
  for (const text of [NUL, HALF, HUGE.slice(0, 7_000)]) {
    for (const url of ['/signup', '/login']) {
      const fields = { email: `${text}@example.com`, password: 'correct horse' };
      const headers = { 'content-type': 'application/json' };
      const asJson = await server.app.inject({
        method: 'POST',
        url,
        headers,
        payload: JSON.stringify(fields),
      });
      expect(asJson.statusCode).toBe(400);
      expect((await postForm(server.app, url, fields)).statusCode).toBe(400);
    }
  }
});

test('a body that is JSON but not an event is 400', async () => {
  const server = await startTestServer();
  for (const body of [
    '7',
    '"text"',
    'true',
    '{}',
    '{"id":7,"type":"x","data":{"object":{}}}',
    '{"__proto__":{"id":"e"}}',
  ]) {
    expect((await deliverRaw(server.app, body, sign(body, START))).statusCode).toBe(400);
  }
});

test.each([
  ['nothing odd', '/settings?checkout=done', '/settings?checkout=done'],
  ['invalid percent-encoding', '/%zz?x=%', '/%25zz?x=%'],
  ['a NUL', '/r/%00', '/r/%2500'],
  ['a very long path', `/${'a'.repeat(5_000)}?x=1`, `/${'a'.repeat(999)}?x=1`],
  ['a query with question marks', '/pricing?ref=A?&x=?', '/pricing?ref=A?&x=?'],
  ['a very long query', `/pricing?ref=A&${'1&'.repeat(7_000)}`, `/pricing?ref=A&${'1&'.repeat(997)}`],
  ['a very long path of signs to decode', '/public/'.padEnd(15_000, '%'), `/public/${'%25'.repeat(992)}`],
])('the router gets a path that it can decode quickly: %s', (_what, url, path) => {
  expect(readablePath(url)).toBe(path);
});

test('thousands of cookies with escaped characters are not unescaped', async () => {
  const { app } = await startTestServer();
  const unescape = vi.spyOn(globalThis, 'decodeURIComponent');
  const cookie = Array.from({ length: 2_000 }, (_, n) => `c${n}=%`).join('; ');
  expect((await app.inject({ url: '/pricing', headers: { cookie } })).statusCode).toBe(200);
  expect(unescape.mock.calls.length).toBeLessThan(10);
});
