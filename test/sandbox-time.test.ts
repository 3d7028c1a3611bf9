import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import Stripe from 'stripe';
import { expect, test } from 'vitest';

import { startHeldSandbox } from './support/held-sandbox.ts';
import type { HeldSandbox } from './support/held-sandbox.ts';
import { emptyFolder } from './support/process.ts';
import { PRICES, sandboxClient, startTestSandbox } from './support/sandbox.ts';
import { START } from './support/server.ts';

const HOUR = 3600;
const DAY = 24 * HOUR;

async function buy({ stripe, acts, fresh }: HeldSandbox, extra: Stripe.Checkout.SessionCreateParams = {}) {
  const customer = await stripe.customers.create({ email: 'ann@example.com' });
  const session = await stripe.checkout.sessions.create({
    mode: 'subscription',
    customer: customer.id,
    line_items: [{ price: PRICES.monthly, quantity: 1 }],
    success_url: 'http://app.test/',
    ...extra,
  });
  const { subscription } = acts.pay(session.id);
  fresh();
  return { customer: customer.id, session: session.id, subscription: subscription ?? '' };
}

/** Each event's type, and its time in seconds after the start. */
function story(events: ReturnType<HeldSandbox['fresh']>) {
  return events.map((event) => [event.created - START.getTime() / 1000, event.type]);
}

test('a trial becomes active when it ends and is charged an hour later', async () => {
  const started = await startHeldSandbox();
  const { subscription } = await buy(started, { subscription_data: { trial_period_days: 7 } });
  started.later(7 * DAY - 1);
  await started.acts.advance();
  expect(started.told()).toEqual([]);

  started.later(30 * 60);
  await started.acts.advance();
  const [ended, ...nothing] = started.fresh();
  expect(nothing).toEqual([]);
  expect(ended).toMatchObject({
    type: 'customer.subscription.updated',
    created: START.getTime() / 1000 + 7 * DAY,
    data: { object: { status: 'active' }, previous_attributes: { status: 'trialing' } },
  });
  const [invoice] = (await started.stripe.invoices.list()).data;
  expect(await started.stripe.subscriptions.retrieve(subscription)).toMatchObject({
    latest_invoice: invoice?.id,
  });
  expect(invoice).toMatchObject({ status: 'draft', amount_due: 900, amount_paid: 0 });

  started.later(HOUR);
  await started.acts.advance();
  expect(story(started.fresh())).toEqual([
    [7 * DAY + HOUR, 'charge.succeeded'],
    [7 * DAY + HOUR, 'invoice_payment.paid'],
    [7 * DAY + HOUR, 'invoice.paid'],
  ]);
});

test('a trial whose card fails is past due an hour after its end', async () => {
  const started = await startHeldSandbox();
  const { customer } = await buy(started, { subscription_data: { trial_period_days: 7 } });
  started.acts.setCard(customer, 'declined');
  started.later(7 * DAY + HOUR);
  await started.acts.advance();
  const events = started.fresh();
  expect(story(events)).toEqual([
    [7 * DAY, 'customer.subscription.updated'],
    [7 * DAY + HOUR, 'charge.failed'],
    [7 * DAY + HOUR, 'invoice.payment_failed'],
    [7 * DAY + HOUR, 'customer.subscription.updated'],
  ]);
  expect(events[3]?.data).toMatchObject({
    object: { status: 'past_due' },
    previous_attributes: { status: 'active' },
  });
});

test('what is due happens in order of time, and its events are dated at the second it was due', async () => {
  const started = await startHeldSandbox();
  const monthly = await buy(started);
  started.later(10);
  const trial = await buy(started, { subscription_data: { trial_period_days: 45 } });
  started.later(100 * DAY);
  await started.acts.advance();
  const events = started.fresh();
  const paid = events.filter((event) => event.type === 'invoice.paid');
  // 10 February, 10 March and 10 April; and an hour after 24 February (45 days), 24 March.
  expect(story(paid).map(([second]) => second)).toEqual([
    31 * DAY,
    45 * DAY + 10 + HOUR,
    59 * DAY,
    73 * DAY + 10,
    90 * DAY,
  ]);
  const seconds = events.map((event) => event.created);
  expect(seconds).toEqual([...seconds].sort((a, b) => a - b));
  for (const { subscription } of [monthly, trial]) {
    const found = await started.stripe.subscriptions.retrieve(subscription);
    expect(found.items.data[0]?.current_period_end).toBeGreaterThan(START.getTime() / 1000 + 100 * DAY);
  }
  await started.acts.advance();
  expect(started.told()).toEqual([]);
});

test('a failed renewal is retried after 3, 5 and 7 days, and then the subscription ends', async () => {
  const started = await startHeldSandbox();
  const { customer, subscription } = await buy(started);
  started.acts.setCard(customer, 'declined');
  started.later(60 * DAY);
  await started.acts.advance();
  const events = started.fresh();
  expect(story(events.filter((event) => event.type !== 'charge.failed'))).toEqual([
    [31 * DAY, 'customer.subscription.updated'],
    [31 * DAY, 'invoice.payment_failed'],
    [31 * DAY, 'customer.subscription.updated'],
    [34 * DAY, 'invoice.payment_failed'],
    [39 * DAY, 'invoice.payment_failed'],
    [46 * DAY, 'invoice.payment_failed'],
    [46 * DAY, 'customer.subscription.deleted'],
  ]);
  // Both updates have the same timestamp; the later one already has the new period.
  const [moved, failed] = events.filter((event) => event.type === 'customer.subscription.updated');
  expect(Object.keys(moved?.data.previous_attributes ?? {}).sort()).toEqual(['items', 'latest_invoice']);
  expect(failed?.data.previous_attributes).toEqual({ status: 'active' });
  expect(await started.stripe.subscriptions.retrieve(subscription)).toMatchObject({
    status: 'canceled',
    ended_at: START.getTime() / 1000 + 46 * DAY,
    cancellation_details: { reason: 'payment_failed' },
  });
  expect(() => {
    started.acts.retryPayment(subscription);
  }).toThrow('has nothing to pay');
});

test('a card that works again saves a past-due subscription', async () => {
  const started = await startHeldSandbox();
  const { customer, subscription } = await buy(started);
  started.acts.setCard(customer, 'declined');
  started.later(32 * DAY);
  await started.acts.advance();
  started.fresh();
  // A manual attempt leaves the schedule unchanged.
  started.acts.retryPayment(subscription);
  expect(started.told()).toEqual(['charge.failed', 'invoice.payment_failed']);
  started.acts.setCard(customer, 'works');
  started.later(3 * DAY);
  await started.acts.advance();
  const events = started.fresh();
  expect(story(events)).toEqual([
    [34 * DAY, 'charge.succeeded'],
    [34 * DAY, 'invoice_payment.paid'],
    [34 * DAY, 'invoice.paid'],
    [34 * DAY, 'customer.subscription.updated'],
  ]);
  expect(events[3]?.data.previous_attributes).toEqual({ status: 'past_due' });
  const invoices = await started.stripe.invoices.list();
  expect(invoices.data.map((invoice) => invoice.attempt_count)).toEqual([2, 1]);
});

test('an unpaid first invoice expires after 23 hours, its checkout after 24', async () => {
  const started = await startHeldSandbox();
  const customer = await started.stripe.customers.create();
  const session = await started.stripe.checkout.sessions.create({
    mode: 'subscription',
    customer: customer.id,
    line_items: [{ price: PRICES.monthly }],
    success_url: 'http://app.test/',
  });
  const { subscription } = started.acts.pay(session.id, { outcome: 'incomplete' });
  started.fresh();
  started.later(2 * DAY);
  await started.acts.advance();
  const events = started.fresh();
  expect(story(events)).toEqual([
    [23 * HOUR, 'customer.subscription.updated'],
    [23 * HOUR, 'invoice.voided'],
    [24 * HOUR, 'checkout.session.expired'],
  ]);
  expect(events[0]?.data).toMatchObject({
    object: { id: subscription, status: 'incomplete_expired' },
    previous_attributes: { status: 'incomplete' },
  });
  const payments = await started.stripe.invoicePayments.list({ status: 'canceled' });
  expect(payments.data).toHaveLength(1);
  expect(() => started.acts.pay(session.id)).toThrow('is expired, not open');
});

test('a subscription is canceled at the end of its period, unless the cancellation is withdrawn', async () => {
  const started = await startHeldSandbox();
  const { subscription: id } = await buy(started);
  const { stripe } = started;
  const previous = () => started.fresh().map((event) => event.data.previous_attributes);

  const ending = await stripe.subscriptions.update(id, { cancel_at_period_end: true });
  expect(ending).toMatchObject({ status: 'active', cancel_at: START.getTime() / 1000 + 31 * DAY });
  expect(previous()).toMatchObject([{ cancel_at_period_end: false, cancel_at: null }]);
  const kept = await stripe.subscriptions.update(id, { cancel_at_period_end: false });
  expect(kept).toMatchObject({ cancel_at: null, canceled_at: null });
  expect(previous()).toMatchObject([{ cancel_at_period_end: true }]);
  await stripe.subscriptions.update(id, { cancel_at_period_end: false });
  expect(previous()).toEqual([]);
  await expect(stripe.subscriptions.update(id, { trial_end: 'now' })).rejects.toMatchObject({
    statusCode: 400,
  });

  started.later(31 * DAY);
  await started.acts.advance();
  await stripe.subscriptions.update(id, { cancel_at_period_end: true });
  started.fresh();
  started.later(365 * DAY);
  await started.acts.advance();
  expect(story(started.fresh())).toEqual([[59 * DAY, 'customer.subscription.deleted']]);
  await expect(stripe.subscriptions.update(id, { cancel_at_period_end: false })).rejects.toMatchObject({
    statusCode: 400,
  });
});

test('a deleted customer is no longer charged', async () => {
  const started = await startHeldSandbox();
  const { customer } = await buy(started, { subscription_data: { trial_period_days: 7 } });
  started.later(7 * DAY);
  await started.acts.advance();
  await started.stripe.customers.del(customer);
  started.fresh();
  started.later(60 * DAY);
  await started.acts.advance();
  expect(started.told()).toEqual([]);
});

test('with a state file, actions that came due while the sandbox was off happen at the start', async () => {
  const stateFile = join(await emptyFolder(), 'sandbox.json');
  const first = await startHeldSandbox({ stateFile });
  const { subscription, customer } = await buy(first);
  first.acts.setCard(customer, 'declined');
  await first.close();

  const second = await startHeldSandbox({ stateFile }, new Date(START.getTime() + 31 * DAY * 1000));
  expect(await second.stripe.subscriptions.retrieve(subscription)).toMatchObject({ status: 'past_due' });
  const renewal = [...second.objects.events.values()].find(
    (event) => event.type === 'invoice.payment_failed',
  );
  expect(renewal?.created).toBe(START.getTime() / 1000 + 31 * DAY);
  expect(second.webhooks.waiting()).toContain(renewal?.id);

  const saved = JSON.parse(await readFile(stateFile, 'utf8')) as object;
  await writeFile(stateFile, JSON.stringify({ ...saved, version: 1 }));
  await expect(startHeldSandbox({ stateFile })).rejects.toThrow('is not a state file of this sandbox');
});

/** A sandbox with a checkout that expires after a day, which is lost, and what somebody else does once a day has passed. */
async function losesNext(
  afterDay: (press: (action: string) => Promise<number>, day: number) => Promise<unknown>,
) {
  let days = 0;
  const sandbox = await startTestSandbox({
    now: () => START,
    timePassed: async () => void (await afterDay(press, (days += 1))),
  });
  const panel = `http://127.0.0.1:${sandbox.apiPort}/`;
  async function press(action: string): Promise<number> {
    const body = new URLSearchParams({ action });
    return (await fetch(panel, { method: 'POST', body, redirect: 'manual' })).status;
  }
  sandbox.webhooks.hold();
  const held = { ...sandbox, stripe: sandboxClient(sandbox) };
  const order: Stripe.Checkout.SessionCreateParams = {
    mode: 'subscription',
    line_items: [{ price: PRICES.monthly, quantity: 1 }],
    success_url: 'http://app.test/',
  };
  const { id } = await held.stripe.checkout.sessions.create(order);
  sandbox.acts.pay(id);
  await held.stripe.checkout.sessions.create(order);
  const before = new Set(sandbox.objects.events.keys());
  return {
    press,
    willLose: async () => (await (await fetch(panel)).text()).includes('The next webhooks will be lost.'),
    /** The types of the events since the start that are lost, and of those that are not. */
    fates: () => {
      const waiting = new Set(sandbox.webhooks.waiting());
      const since = [...sandbox.objects.events.values()].filter((event) => !before.has(event.id));
      const types = (isLost: boolean) =>
        since.filter((event) => waiting.has(event.id) !== isLost).map(({ type }) => type);
      return { lost: types(true), kept: types(false) };
    },
  };
}

test('while time passes and webhooks are lost, somebody else can have the rest delivered', async () => {
  const { press, fates, willLose } = await losesNext(async (press, day) => {
    if (day === 1) expect(await press('lose_none')).toBe(303);
  });
  await press('lose_next');
  expect(await press('pass_month')).toBe(303);
  expect(fates().lost).toEqual(['checkout.session.expired']);
  expect(fates().kept).toContain('invoice.paid');
  expect(await willLose()).toBe(false);
});

test('while time passes, somebody else can have the next webhooks lost', async () => {
  const { press, fates, willLose } = await losesNext(async (press, day) => {
    if (day === 2) expect(await press('lose_next')).toBe(303);
  });
  expect(await press('pass_week')).toBe(303);
  expect(fates()).toEqual({ lost: [], kept: ['checkout.session.expired'] });
  expect(await willLose()).toBe(true);
});

test('webhooks that were lost while time passed count as the next ones, even if the server fails meanwhile', async () => {
  const { press, fates, willLose } = await losesNext((_press, day) =>
    day === 2 ? Promise.reject(new Error('No room on the disk')) : Promise.resolve(),
  );
  await press('lose_next');
  expect(await press('pass_week')).toBe(500);
  expect(fates()).toEqual({ lost: ['checkout.session.expired'], kept: [] });
  expect(await willLose()).toBe(false);
});
