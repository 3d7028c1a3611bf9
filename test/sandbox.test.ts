import { readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';

import Stripe from 'stripe';
import { describe, expect, test } from 'vitest';

import type { SandboxOptions } from '../src/sandbox/sandbox.ts';
import { periodEnd } from '../src/sandbox/time.ts';
import { emptyFolder } from './support/process.ts';
import {
  delivered,
  NOWHERE,
  PRICES,
  sandboxClient,
  startReceiver,
  startTestSandbox,
} from './support/sandbox.ts';

/** An object's id, where the API did not expand it. */
function idOf(reference: unknown): string {
  if (typeof reference !== 'string') throw new Error('This is not the id of a Stripe object.');
  return reference;
}

const DAY = 86_400;

async function start(webhookUrl: string, extra: Partial<SandboxOptions> = {}) {
  const lines: string[] = [];
  const sandbox = await startTestSandbox({
    webhookUrl: () => webhookUrl,
    log: (line) => void lines.push(line),
    ...extra,
  });
  return { sandbox, lines, stripe: sandboxClient(sandbox), page: `http://127.0.0.1:${sandbox.apiPort}` };
}

async function checkout(stripe: Stripe, extra: Partial<Stripe.Checkout.SessionCreateParams> = {}) {
  const customer = await stripe.customers.create({ email: 'ann@example.com', metadata: { userId: 'u1' } });
  const session = await stripe.checkout.sessions.create({
    mode: 'subscription',
    customer: customer.id,
    client_reference_id: 'u1',
    line_items: [{ price: PRICES.monthly, quantity: 1 }],
    success_url: 'http://app.test/settings?session={CHECKOUT_SESSION_ID}',
    cancel_url: 'http://app.test/pricing',
    allow_promotion_codes: true,
    ...extra,
  });
  return { customer, session };
}

function press(url: string, fields: Record<string, string>): Promise<Response> {
  return fetch(url, { method: 'POST', body: new URLSearchParams(fields), redirect: 'manual' });
}

/** Buys a plan and opens its buyer's portal. */
async function subscribe(
  { sandbox, stripe, page }: Awaited<ReturnType<typeof start>>,
  extra: Partial<Stripe.Checkout.SessionCreateParams> = {},
) {
  const { customer, session } = await checkout(stripe, extra);
  await press(`${page}/checkout/${session.id}`, { outcome: 'pay' });
  await delivered(sandbox);
  const paid = await stripe.checkout.sessions.retrieve(session.id);
  const portal = await stripe.billingPortal.sessions.create({
    customer: customer.id,
    return_url: 'http://app.test/settings',
  });
  return {
    customer,
    session: paid,
    subscription: idOf(paid.subscription),
    portal: `${page}/portal/${portal.id}`,
  };
}

/** The object of the only event of a type. */
function only<T extends Stripe.Event['type']>(events: Stripe.Event[], type: T) {
  const found = events.filter((event): event is Extract<Stripe.Event, { type: T }> => event.type === type);
  expect(found.map((event) => event.type)).toEqual([type]);
  return found[0] as Extract<Stripe.Event, { type: T }>;
}

/** The events of a paid checkout, apart from its customer. */
const PAYMENT_EVENTS = [
  'charge.succeeded',
  'checkout.session.completed',
  'customer.subscription.created',
  'invoice.paid',
  'invoice_payment.paid',
];

function typesOf(events: Stripe.Event[]): string[] {
  return events.map((event) => event.type).sort();
}

describe('paying', () => {
  test('reports one payment in signed events and sends the browser on', async () => {
    const receiver = await startReceiver();
    const { sandbox, stripe, page } = await start(receiver.url);
    const { customer, session } = await checkout(stripe, {
      metadata: { userId: 'u1' },
      subscription_data: { metadata: { plan: 'monthly' } },
    });
    await delivered(sandbox);
    expect(only(receiver.events, 'customer.created').data.object.id).toBe(customer.id);
    expect(session.url).toBe(`${sandbox.url}/checkout/${session.id}`);

    const answer = await press(`${page}/checkout/${session.id}`, { outcome: 'pay' });
    expect(answer.status).toBe(303);
    expect(answer.headers.get('location')).toBe(`http://app.test/settings?session=${session.id}`);
    // The webhooks arrived before the redirect.
    expect(typesOf(receiver.events)).toEqual([...PAYMENT_EVENTS, 'customer.created'].sort());

    const completed = only(receiver.events, 'checkout.session.completed').data.object;
    expect(completed).toMatchObject({
      id: session.id,
      client_reference_id: 'u1',
      metadata: { userId: 'u1' },
      customer: customer.id,
      status: 'complete',
      payment_status: 'paid',
      amount_total: 900,
      livemode: false,
    });
    const subscription = only(receiver.events, 'customer.subscription.created').data.object;
    expect(subscription).toMatchObject({
      id: completed.subscription,
      status: 'active',
      customer: customer.id,
      metadata: { plan: 'monthly' },
      latest_invoice: completed.invoice,
      collection_method: 'charge_automatically',
      discounts: [],
      trial_end: null,
    });
    expect(subscription).not.toHaveProperty('current_period_end');
    const item = subscription.items.data[0];
    expect(item?.price).toMatchObject({
      id: PRICES.monthly,
      unit_amount: 900,
      recurring: { interval: 'month' },
    });
    expect(item?.current_period_end).toBe(periodEnd(subscription.created, 'month', subscription.created));
    const invoice = only(receiver.events, 'invoice.paid').data.object;
    expect(invoice).toMatchObject({
      id: completed.invoice,
      amount_paid: 900,
      billing_reason: 'subscription_create',
      parent: { type: 'subscription_details', subscription_details: { subscription: subscription.id } },
      status_transitions: { paid_at: subscription.created },
    });

    await delivered(sandbox);
    const listed = await stripe.events.list({ limit: 2 });
    expect(listed.data).toHaveLength(2);
    expect(listed.has_more).toBe(true);
    const all = await stripe.events.list({ limit: 1 }).autoPagingToArray({ limit: 10 });
    expect(new Set(all.map((event) => event.id))).toEqual(new Set(receiver.events.map((event) => event.id)));
    expect(all.map((event) => event.pending_webhooks)).toEqual([0, 0, 0, 0, 0, 0]);
  });

  test('a checkout is paid once, however often the button is pressed', async () => {
    const receiver = await startReceiver();
    const { sandbox, stripe, page } = await start(receiver.url);
    const { session } = await checkout(stripe);
    const answers = await Promise.all(
      [1, 2, 3].map(() => press(`${page}/checkout/${session.id}`, { outcome: 'pay' })),
    );
    expect(answers.map((answer) => answer.status)).toEqual([303, 303, 303]);
    await delivered(sandbox);
    expect(typesOf(receiver.events)).toEqual([...PAYMENT_EVENTS, 'customer.created'].sort());
  });

  test('a declined card or going back changes nothing', async () => {
    const { stripe, page } = await start((await startReceiver()).url);
    const { session } = await checkout(stripe);

    const declined = await press(`${page}/checkout/${session.id}`, { outcome: 'decline' });
    expect(await declined.text()).toContain('Your card was declined.');
    const open = await (await fetch(`${page}/checkout/${session.id}`)).text();
    expect(open).toContain('<a href="http://app.test/pricing">');

    expect(await stripe.checkout.sessions.retrieve(session.id)).toMatchObject({
      status: 'open',
      payment_status: 'unpaid',
    });
    expect((await stripe.events.list()).data.map((event) => event.type)).toEqual(['customer.created']);
  });

  test('an expired checkout takes no money', async () => {
    const receiver = await startReceiver();
    const { sandbox, stripe, page } = await start(receiver.url);
    const { session } = await checkout(stripe);
    expect(await stripe.checkout.sessions.expire(session.id)).toMatchObject({ status: 'expired', url: null });

    const answer = await press(`${page}/checkout/${session.id}`, { outcome: 'pay' });
    expect(await answer.text()).toContain('has expired');
    await delivered(sandbox);
    expect(typesOf(receiver.events)).toEqual(['checkout.session.expired', 'customer.created']);
    await expect(stripe.checkout.sessions.expire(session.id)).rejects.toMatchObject({ statusCode: 400 });
  });

  test('a checkout expires after a day', async () => {
    const receiver = await startReceiver();
    let time = Date.now();
    const { sandbox, stripe, page } = await start(receiver.url, { now: () => new Date(time) });
    const { session } = await checkout(stripe);
    time += DAY * 1000;
    const answer = await press(`${page}/checkout/${session.id}`, { outcome: 'pay' });
    expect(await answer.text()).toContain('has expired');
    expect(await stripe.checkout.sessions.retrieve(session.id)).toMatchObject({ status: 'expired' });
    await delivered(sandbox);
    only(receiver.events, 'checkout.session.expired');
  });

  test('the checkout page escapes what it shows, and its forms lead only to the sandbox and the given address', async () => {
    const { stripe, page } = await start(NOWHERE);
    const session = await stripe.checkout.sessions.create({
      mode: 'subscription',
      customer_email: '"><script>alert(1)</script>@example.com',
      line_items: [{ price: PRICES.annual }],
      success_url: 'http://app.test/done',
    });
    const answer = await fetch(`${page}/checkout/${session.id}`);
    const html = await answer.text();
    expect(html).not.toContain('<script>');
    expect(html).toContain('$90.00 a year');
    expect(html).toContain('no real money moves');
    expect(answer.headers.get('content-security-policy')).toContain("form-action 'self' http://app.test;");
  });
});

describe('webhooks', () => {
  test('are sent again with a new signature when the receiver fails', async () => {
    const receiver = await startReceiver([500, 500]);
    // A clock that advances at each reading, so that no two signatures fall in the same second.
    let time = Date.now();
    const started = await start(receiver.url, { now: () => new Date((time += 1000)) });
    await subscribe(started);
    expect(typesOf(receiver.events)).toEqual([...PAYMENT_EVENTS, 'customer.created'].sort());
    expect(receiver.attempts).toHaveLength(8);
    expect(new Set(receiver.attempts.map(({ signature }) => signature)).size).toBe(8);
    expect(started.lines).toHaveLength(2);
    expect(started.lines[0]).toMatch(/failed: HTTP 500; next try in 1 s$/);
  });

  test('undelivered webhooks and all other state survive a restart', async () => {
    const stateFile = join(await emptyFolder(), 'data', 'sandbox.json');

    const first = await start(NOWHERE, { stateFile });
    const { customer, session } = await checkout(first.stripe);
    await press(`${first.page}/checkout/${session.id}`, { outcome: 'pay' });
    await first.sandbox.close();
    expect((await stat(stateFile)).mode & 0o777).toBe(0o600);

    const receiver = await startReceiver();
    const second = await start(receiver.url, { stateFile });
    await delivered(second.sandbox);
    expect(typesOf(receiver.events)).toEqual([...PAYMENT_EVENTS, 'customer.created'].sort());
    expect(await second.stripe.customers.retrieve(customer.id)).toMatchObject({ email: 'ann@example.com' });
    const paid = await second.stripe.checkout.sessions.retrieve(session.id);
    expect(await second.stripe.subscriptions.retrieve(idOf(paid.subscription))).toMatchObject({
      status: 'active',
    });
    expect((await second.stripe.invoices.list()).data).toMatchObject([
      { id: paid.invoice, amount_paid: 900 },
    ]);
    expect(second.sandbox.objects.charges.size).toBe(1);
    expect(JSON.parse(await readFile(stateFile, 'utf8'))).toMatchObject({ undelivered: [] });
  });
});

describe('a subscription in the sandbox', () => {
  test('a trial costs nothing at first and is charged when it ends', async () => {
    const receiver = await startReceiver();
    const started = await start(receiver.url);
    const { session, subscription, portal } = await subscribe(started, {
      subscription_data: { trial_period_days: 7 },
    });
    expect(session).toMatchObject({ payment_status: 'no_payment_required', amount_total: 0 });
    expect(only(receiver.events, 'invoice.paid').data.object.amount_paid).toBe(0);
    const trialing = only(receiver.events, 'customer.subscription.created').data.object;
    const trialEnd = trialing.created + 7 * DAY;
    expect(trialing).toMatchObject({
      status: 'trialing',
      trial_start: trialing.created,
      trial_end: trialEnd,
    });

    receiver.events.length = 0;
    // The trial ends, and the card is charged an hour later.
    await press(portal, { action: 'pass_next' });
    await press(portal, { action: 'pass_next' });
    await delivered(started.sandbox);
    expect(only(receiver.events, 'invoice.paid').data.object).toMatchObject({
      amount_paid: 900,
      billing_reason: 'subscription_cycle',
    });
    const updated = only(receiver.events, 'customer.subscription.updated').data;
    expect(updated.object.status).toBe('active');
    expect(updated.object.items.data[0]?.current_period_start).toBe(trialEnd);
    expect(updated.previous_attributes).toMatchObject({ status: 'trialing' });
    expect(await started.stripe.subscriptions.retrieve(subscription)).toMatchObject({ status: 'active' });
  });

  test('a subscription renews for one more period', async () => {
    const receiver = await startReceiver();
    const started = await start(receiver.url);
    const { portal } = await subscribe(started, { line_items: [{ price: PRICES.annual, quantity: 1 }] });
    const before = only(receiver.events, 'customer.subscription.created').data.object;

    receiver.events.length = 0;
    await press(portal, { action: 'pass_next' });
    await delivered(started.sandbox);
    const { object, previous_attributes: previous } = only(
      receiver.events,
      'customer.subscription.updated',
    ).data;
    const end = before.items.data[0]?.current_period_end ?? 0;
    expect(object.items.data[0]).toMatchObject({
      current_period_start: end,
      current_period_end: periodEnd(before.created, 'year', end),
    });
    expect(Object.keys(previous ?? {}).sort()).toEqual(['items', 'latest_invoice']);
    expect(previous?.items?.data[0]).toMatchObject({ current_period_end: end });
    const invoice = only(receiver.events, 'invoice.paid').data.object;
    expect(invoice).toMatchObject({ id: object.latest_invoice, amount_paid: 9000 });
    expect(invoice.number).toMatch(/-0002$/);
  });

  test('a subscription canceled at the end of its period runs out', async () => {
    const receiver = await startReceiver();
    const started = await start(receiver.url);
    const { subscription, portal } = await subscribe(started);
    receiver.events.length = 0;
    const cancelled = await press(portal, { action: 'cancel_at_period_end' });
    expect(cancelled.status).toBe(303);
    await press(portal, { action: 'cancel_at_period_end' });
    await delivered(started.sandbox);
    const updated = only(receiver.events, 'customer.subscription.updated').data;
    expect(updated.object).toMatchObject({
      status: 'active',
      cancel_at_period_end: true,
      cancel_at: updated.object.items.data[0]?.current_period_end,
      ended_at: null,
    });
    expect(updated.previous_attributes).toMatchObject({ cancel_at_period_end: false, cancel_at: null });

    await press(portal, { action: 'pass_next' });
    expect(await started.stripe.subscriptions.retrieve(subscription)).toMatchObject({ status: 'canceled' });
  });

  test('a subscription ends at once, by the portal or the API, and only once', async () => {
    const receiver = await startReceiver();
    const started = await start(receiver.url);
    const { customer, subscription, portal } = await subscribe(started);
    await press(portal, { action: 'cancel_now' });
    await press(portal, { action: 'cancel_now' });
    await delivered(started.sandbox);
    const deleted = only(receiver.events, 'customer.subscription.deleted').data.object;
    expect(deleted).toMatchObject({ id: subscription, status: 'canceled' });
    expect(deleted.ended_at).toBeGreaterThanOrEqual(deleted.created);
    await expect(started.stripe.subscriptions.cancel(subscription)).rejects.toMatchObject({
      statusCode: 404,
    });

    const { data: live } = await started.stripe.subscriptions.list({ customer: customer.id });
    const { data: all } = await started.stripe.subscriptions.list({ customer: customer.id, status: 'all' });
    expect([live.length, all.length]).toEqual([0, 1]);
    const html = await (await fetch(portal)).text();
    expect(html).toContain('Monthly: ended on');
    expect(html).toContain('<a href="http://app.test/settings">');
  });

  test('a subscription ends with its customer', async () => {
    const receiver = await startReceiver();
    const started = await start(receiver.url);
    const { customer } = await subscribe(started);
    receiver.events.length = 0;
    expect(await started.stripe.customers.del(customer.id)).toEqual({
      id: customer.id,
      object: 'customer',
      deleted: true,
    });
    await delivered(started.sandbox);
    expect(receiver.events.map((event) => event.type).sort()).toEqual([
      'customer.deleted',
      'customer.subscription.deleted',
    ]);
    expect(await started.stripe.customers.retrieve(customer.id)).toMatchObject({ deleted: true });
    await expect(
      started.stripe.billingPortal.sessions.create({ customer: customer.id }),
    ).rejects.toMatchObject({ code: 'resource_missing', param: 'customer' });
  });
});

describe('the API of the sandbox', () => {
  test('the API answers a repeated idempotency key with its first answer', async () => {
    const { stripe } = await start(NOWHERE);
    const options = { idempotencyKey: 'sign-up-1' };
    const first = await stripe.customers.create({ email: 'ann@example.com' }, options);
    const second = await stripe.customers.create({ email: 'ann@example.com' }, options);
    expect(second.id).toBe(first.id);
    await expect(stripe.customers.create({ email: 'bob@example.com' }, options)).rejects.toBeInstanceOf(
      Stripe.errors.StripeIdempotencyError,
    );
  });

  test('the API reports errors in the form that the stripe library understands', async () => {
    const { sandbox, stripe } = await start(NOWHERE);
    await expect(
      sandboxClient(sandbox, 'sk_test_wrong').prices.retrieve(PRICES.monthly),
    ).rejects.toBeInstanceOf(Stripe.errors.StripeAuthenticationError);
    const missing = { code: 'resource_missing', requestId: expect.stringMatching(/^req_/) as unknown };
    await expect(stripe.customers.retrieve('constructor')).rejects.toMatchObject({
      statusCode: 404,
      ...missing,
    });
    await expect(
      stripe.checkout.sessions.create({
        mode: 'subscription',
        line_items: [{ price: 'price_unknown' }],
        success_url: 'http://app.test/',
      }),
    ).rejects.toMatchObject({ statusCode: 400, param: 'line_items[0][price]', ...missing });
    await expect(
      stripe.checkout.sessions.create({
        mode: 'subscription',
        line_items: [{ price: PRICES.monthly }],
        success_url: 'javascript:alert(1)',
      }),
    ).rejects.toMatchObject({ statusCode: 400, code: 'url_invalid' });
    await expect(stripe.products.list()).rejects.toMatchObject({ statusCode: 404 });
  });

  test('the API has two prices', async () => {
    const { stripe } = await start(NOWHERE);
    expect(await stripe.prices.retrieve(PRICES.monthly)).toMatchObject({ unit_amount: 900, currency: 'usd' });
    expect(await stripe.prices.retrieve(PRICES.annual)).toMatchObject({ unit_amount: 9000, currency: 'usd' });
  });
});

describe('billing periods in the sandbox', () => {
  test('a billing period ends on the same day of the month where the month has it', () => {
    const at = (text: string) => Date.parse(`${text}T12:00:00Z`) / 1000;
    const anchor = at('2027-01-31');
    expect(periodEnd(anchor, 'month', anchor)).toBe(at('2027-02-28'));
    expect(periodEnd(anchor, 'month', at('2027-02-28'))).toBe(at('2027-03-31'));
    expect(periodEnd(at('2028-02-29'), 'year', at('2028-02-29'))).toBe(at('2029-02-28'));
  });
});
