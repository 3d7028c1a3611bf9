import Stripe from 'stripe';
import { expect, test } from 'vitest';

import { startHeldSandbox } from './support/held-sandbox.ts';
import type { HeldSandbox } from './support/held-sandbox.ts';
import { PRICES } from './support/sandbox.ts';
import { START } from './support/server.ts';

const HOUR = 3600;

async function openCheckout({ stripe }: HeldSandbox, extra: Stripe.Checkout.SessionCreateParams = {}) {
  const customer = await stripe.customers.create({ email: 'ann@example.com' });
  const session = await stripe.checkout.sessions.create({
    mode: 'subscription',
    customer: customer.id,
    line_items: [{ price: PRICES.monthly, quantity: 1 }],
    success_url: 'http://app.test/',
    ...extra,
  });
  return { customer: customer.id, session: session.id };
}

/** Buys a plan and looks up the objects that its money moved through. */
async function buy(
  started: HeldSandbox,
  ...how: Parameters<HeldSandbox['acts']['pay']> extends [string, ...infer R] ? R : never
) {
  const { customer, session } = await openCheckout(started);
  const { subscription } = started.acts.pay(session, ...how);
  const [charge] = [...started.objects.charges.values()];
  started.fresh();
  return {
    customer,
    session,
    subscription: subscription ?? '',
    charge: charge?.id ?? '',
    intent: charge?.payment_intent ?? '',
  };
}

test('a payment creates an intent, a charge and an invoice payment, tied only to each other', async () => {
  const started = await startHeldSandbox();
  const { stripe } = started;
  const { customer, session } = await openCheckout(started);
  expect(started.told()).toEqual(['customer.created']);
  const { paid, subscription } = started.acts.pay(session);
  expect(paid).toBe(true);
  expect(started.told()).toEqual([
    'charge.succeeded',
    'checkout.session.completed',
    'customer.subscription.created',
    'invoice.paid',
    'invoice_payment.paid',
  ]);

  const [charge] = [...started.objects.charges.values()];
  const [intent] = [...started.objects.paymentIntents.values()];
  const [payment] = (await stripe.invoicePayments.list({ status: 'paid' })).data;
  const [invoice] = (await stripe.invoices.list()).data;
  expect(payment).toMatchObject({
    object: 'invoice_payment',
    amount_paid: 900,
    is_default: true,
    status_transitions: { paid_at: START.getTime() / 1000, canceled_at: null },
    payment: { type: 'payment_intent', payment_intent: intent?.id },
    invoice: invoice?.id,
  });
  expect(intent).toMatchObject({ status: 'succeeded', customer, latest_charge: charge?.id });
  expect(invoice).toMatchObject({ status: 'paid', parent: { subscription_details: { subscription } } });
  for (const gone of ['charge', 'payment_intent', 'subscription']) {
    expect(invoice).not.toHaveProperty(gone);
  }
  const found = await stripe.charges.retrieve(charge?.id ?? '');
  expect(found).toMatchObject({ amount: 900, paid: true, refunded: false, customer });
  expect(found).not.toHaveProperty('invoice');
  expect((await stripe.invoicePayments.list({ status: 'open' })).data).toEqual([]);
});

test('a total of zero is paid without a payment', async () => {
  const started = await startHeldSandbox();
  const { customer, session } = await openCheckout(started);
  started.acts.pay(session, { percentOff: 100 });
  expect(started.told()).toEqual([
    'checkout.session.completed',
    'customer.created',
    'customer.subscription.created',
    'invoice.paid',
  ]);
  const trial = await openCheckout(started, { subscription_data: { trial_period_days: 7 } });
  started.acts.pay(trial.session);
  const invoices = await started.stripe.invoices.list();
  expect(invoices.data.map((one) => [one.status, one.amount_paid, one.total])).toEqual([
    ['paid', 0, 0],
    ['paid', 0, 0],
  ]);
  expect(started.objects.charges.size + started.objects.invoicePayments.size).toBe(0);
  // The code counted once: it is gone from the subscription, and stays on the invoice that it lowered.
  expect(invoices.data[1]).toMatchObject({
    subtotal: 900,
    total_discount_amounts: [{ amount: 900 }],
    discounts: [expect.stringMatching(/^di_/)],
  });
  const subscriptions = await started.stripe.subscriptions.list({ customer });
  expect(subscriptions.data[0]).toMatchObject({ status: 'active', discounts: [] });
  expect(() => started.acts.pay(trial.session, { outcome: 'bank_debit' })).toThrow('not open');
});

test('a promotion code lowers the first invoice that is not zero, and no other', async () => {
  const started = await startHeldSandbox();
  const { session } = await openCheckout(started, { subscription_data: { trial_period_days: 7 } });
  started.acts.pay(session, { percentOff: 50 });
  const [subscription] = started.objects.subscriptions.values();
  expect(subscription?.discounts).toHaveLength(1);
  started.later(65 * 24 * HOUR);
  await started.acts.advance();
  expect([...started.objects.invoices.values()].map((one) => one.amount_paid)).toEqual([0, 450, 900]);
});

test('a refund takes a part or the rest, and no more', async () => {
  const started = await startHeldSandbox();
  const { stripe } = started;
  const { charge, intent } = await buy(started);
  const first = await stripe.refunds.create({ charge, amount: 300 });
  expect(started.told()).toEqual(['charge.refunded', 'refund.created']);
  expect(await stripe.charges.retrieve(charge)).toMatchObject({ amount_refunded: 300, refunded: false });
  await expect(stripe.refunds.create({ charge, amount: 601 })).rejects.toMatchObject({
    statusCode: 400,
    param: 'amount',
    message: expect.stringContaining('greater than unrefunded amount') as unknown,
  });
  const rest = await stripe.refunds.create({ payment_intent: intent });
  expect(rest.amount).toBe(600);
  expect(await stripe.charges.retrieve(charge)).toMatchObject({ amount_refunded: 900, refunded: true });
  await expect(stripe.refunds.create({ charge })).rejects.toMatchObject({ code: 'charge_already_refunded' });
  await expect(stripe.refunds.create({ charge: 'ch_none' })).rejects.toMatchObject({ param: 'charge' });
  await expect(stripe.refunds.create({})).rejects.toMatchObject({ code: 'parameter_missing' });
  expect((await stripe.refunds.list({ charge })).data.map((one) => one.id)).toEqual([rest.id, first.id]);
  expect((await stripe.refunds.list({ charge: 'ch_x' })).data).toEqual([]);
  started.fresh();

  started.acts.failRefund(rest.id);
  expect(started.told()).toEqual(['refund.failed', 'refund.updated']);
  expect((await stripe.refunds.list({ expand: ['data.charge'] })).data).toMatchObject([
    { id: rest.id, status: 'failed', charge: { id: charge, amount_refunded: 300, refunded: false } },
    { id: first.id, status: 'succeeded', charge: { id: charge } },
  ]);
  expect(() => {
    started.acts.failRefund(rest.id);
  }).toThrow('already failed');
});

test('a dispute can be lost, and won later', async () => {
  const started = await startHeldSandbox();
  const { stripe } = started;
  const { charge, intent } = await buy(started);
  const id = started.acts.openDispute(intent);
  expect(started.told()).toEqual(['charge.dispute.created']);
  expect(await stripe.disputes.retrieve(id)).toMatchObject({
    status: 'needs_response',
    charge,
    payment_intent: intent,
  });
  expect(await stripe.charges.retrieve(charge)).toMatchObject({ disputed: true });
  await expect(stripe.refunds.create({ charge })).rejects.toMatchObject({ code: 'charge_disputed' });
  expect(() => started.acts.openDispute(charge)).toThrow('is already disputed');
  started.acts.closeDispute(id, 'lost');
  expect(started.told()).toEqual(['charge.dispute.closed']);
  started.acts.closeDispute(id, 'won');
  const [updated] = started.fresh();
  expect(updated).toMatchObject({
    type: 'charge.dispute.updated',
    data: { object: { status: 'won' }, previous_attributes: { status: 'lost' } },
  });
  expect(() => {
    started.acts.closeDispute(id, 'lost');
  }).toThrow('is already won');
  expect((await stripe.disputes.list()).data.map((one) => one.status)).toEqual(['won']);
});

test('a bank debit completes the checkout unpaid and settles later', async () => {
  const started = await startHeldSandbox();
  const { session, subscription } = await buy(started, { outcome: 'bank_debit' });
  expect(
    await started.stripe.checkout.sessions.retrieve(session, { expand: ['subscription'] }),
  ).toMatchObject({
    status: 'complete',
    payment_status: 'unpaid',
    subscription: { id: subscription, status: 'active' },
  });
  expect((await started.stripe.invoices.list()).data).toMatchObject([{ status: 'open', amount_paid: 0 }]);
  started.later(4 * 24 * HOUR);
  await started.acts.advance();
  expect(started.told()).toEqual([]);
  started.acts.settleDebit(session, true);
  expect(started.told()).toEqual([
    'charge.succeeded',
    'checkout.session.async_payment_succeeded',
    'invoice.paid',
    'invoice_payment.paid',
  ]);
  expect(() => {
    started.acts.settleDebit(session, true);
  }).toThrow('No bank debit is pending');
});

test('a bank debit that fails leaves the subscription past due', async () => {
  const started = await startHeldSandbox();
  const { session, subscription } = await buy(started, { outcome: 'bank_debit' });
  started.acts.settleDebit(session, false);
  const events = started.fresh();
  expect(events.map((event) => event.type)).toEqual([
    'checkout.session.async_payment_failed',
    'charge.failed',
    'invoice.payment_failed',
    'customer.subscription.updated',
  ]);
  expect(events[3]?.data.previous_attributes).toEqual({ status: 'active' });
  expect(() => {
    started.acts.settleDebit(session, true);
  }).toThrow('No bank debit is pending');
  started.acts.retryPayment(subscription);
  expect(await started.stripe.subscriptions.retrieve(subscription)).toMatchObject({ status: 'active' });
  expect(() => {
    started.acts.retryPayment(subscription);
  }).toThrow('has nothing to pay');
});

test("a first payment that needs the bank's approval keeps the subscription incomplete", async () => {
  const started = await startHeldSandbox();
  const { session, customer } = await openCheckout(started);
  started.fresh();
  const { paid, subscription } = started.acts.pay(session, { outcome: 'incomplete' });
  expect(paid).toBe(false);
  expect(started.told()).toEqual(['customer.subscription.created', 'invoice.payment_action_required']);
  const id = subscription ?? '';
  expect(await started.stripe.subscriptions.retrieve(id)).toMatchObject({ status: 'incomplete', customer });
  expect((await started.stripe.invoices.list()).data).toMatchObject([{ status: 'open' }]);
  expect((await started.stripe.invoicePayments.list()).data).toMatchObject([{ status: 'open' }]);
  await expect(started.stripe.subscriptions.update(id, { cancel_at_period_end: true })).rejects.toMatchObject(
    {
      statusCode: 400,
    },
  );
  expect(await started.stripe.checkout.sessions.retrieve(session)).toMatchObject({ status: 'open' });

  started.acts.setCard(customer, 'declined');
  started.acts.retryPayment(id);
  expect(started.told()).toEqual(['charge.failed', 'invoice.payment_failed']);
  started.acts.setCard(customer, 'works');
  started.acts.retryPayment(id);
  expect(started.told()).toEqual([
    'charge.succeeded',
    'checkout.session.completed',
    'customer.subscription.updated',
    'invoice.paid',
    'invoice_payment.paid',
  ]);
  expect(await started.stripe.checkout.sessions.retrieve(session)).toMatchObject({
    status: 'complete',
    payment_status: 'paid',
    subscription: id,
  });
});

test('the buyer can pay the same checkout once the bank has approved', async () => {
  const started = await startHeldSandbox();
  const { session } = await openCheckout(started);
  const first = started.acts.pay(session, { outcome: 'incomplete' });
  const second = started.acts.pay(session);
  expect(second).toEqual({ paid: true, subscription: first.subscription });
  expect(started.objects.subscriptions.size).toBe(1);
});

test('actions that make no sense say so and change nothing', async () => {
  const started = await startHeldSandbox();
  const { session, customer } = await openCheckout(started);
  started.fresh();
  const { acts } = started;
  const senseless: [() => unknown, string][] = [
    [() => acts.pay('cs_none'), 'no checkout'],
    [() => acts.pay(session, { percentOff: 101 }), 'at most 100'],
    [() => acts.pay(session, { percentOff: 100, outcome: 'bank_debit' }), 'costs nothing'],
    [
      () => {
        acts.settleDebit(session, true);
      },
      'No bank debit',
    ],
    [
      () => {
        acts.setCard('cus_none', 'works');
      },
      'no customer',
    ],
    [
      () => {
        acts.retryPayment('sub_none');
      },
      'no subscription',
    ],
    [() => acts.openDispute('pi_none'), 'neither a charge'],
    [
      () => {
        acts.closeDispute('du_none', 'won');
      },
      'no dispute',
    ],
    [
      () => {
        acts.failRefund('re_none');
      },
      'no refund',
    ],
  ];
  for (const [act, sentence] of senseless) {
    expect(act).toThrow(sentence);
  }
  await started.stripe.customers.del(customer);
  started.fresh();
  expect(() => acts.pay(session)).toThrow('was deleted');
  expect(started.told()).toEqual([]);
  expect(await started.stripe.checkout.sessions.retrieve(session)).toMatchObject({ discounts: [] });
});

test('a customer can be changed and found', async () => {
  const started = await startHeldSandbox();
  const { stripe } = started;
  const ann = await stripe.customers.create({ email: 'ann@example.com', metadata: { a: '1' } });
  const ben = await stripe.customers.create({ email: 'ben@example.com', test_clock: 'clock_1' });
  started.fresh();
  const changed = await stripe.customers.update(ann.id, { name: 'Ann' });
  expect(changed).toMatchObject({ name: 'Ann', email: 'ann@example.com', metadata: { a: '1' } });
  const [updated, ...more] = started.fresh();
  expect(more).toEqual([]);
  expect(updated).toMatchObject({
    type: 'customer.updated',
    data: { previous_attributes: { name: null } },
  });
  await stripe.customers.update(ann.id, { name: 'Ann' });
  expect(started.told()).toEqual([]);

  const ids = async () => (await stripe.customers.list()).data.map((one) => one.id);
  // Stripe does not list the customers of a test clock.
  expect(await ids()).toEqual([ann.id]);
  expect(await stripe.customers.retrieve(ben.id)).toMatchObject({ test_clock: 'clock_1' });
  await stripe.customers.del(ann.id);
  expect(await ids()).toEqual([]);
});

test('objects on a test clock name it', async () => {
  const started = await startHeldSandbox();
  const { stripe } = started;
  const customer = await stripe.customers.create({ test_clock: 'clock_1' });
  const { session } = await openCheckout(started, { customer: customer.id });
  started.acts.pay(session);
  const [own] = (await stripe.subscriptions.list({ customer: customer.id })).data;
  expect(own).toMatchObject({ test_clock: 'clock_1' });
  expect((await stripe.invoices.list()).data).toMatchObject([{ test_clock: 'clock_1' }]);
  expect((await stripe.subscriptions.list()).data).toEqual([]);
});

test('lists can be filtered', async () => {
  const started = await startHeldSandbox();
  const { stripe } = started;
  const { customer, session, subscription } = await buy(started);
  started.later(HOUR);
  const other = await openCheckout(started, { line_items: [{ price: PRICES.annual }] });
  const since = START.getTime() / 1000 + 1;

  const found = async (list: Promise<Stripe.ApiList<{ id: string }>>) =>
    (await list).data.map((one) => one.id);
  expect(await found(stripe.checkout.sessions.list({ status: 'open' }))).toEqual([other.session]);
  expect(await found(stripe.checkout.sessions.list({ created: { lt: since } }))).toEqual([session]);
  expect(await found(stripe.checkout.sessions.list({ created: since - 1 }))).toEqual([session]);
  started.acts.pay(other.session);
  expect(await found(stripe.subscriptions.list({ customer }))).toEqual([subscription]);
  expect(await found(stripe.subscriptions.list({ status: 'past_due' }))).toEqual([]);
  const invoices = [...started.objects.invoices.keys()];
  expect(await found(stripe.invoices.list({ created: { gte: since } }))).toEqual([invoices[1]]);
  expect(await found(stripe.invoices.list({ created: { gt: since, lte: since - 1 } }))).toEqual([]);
  await expect(stripe.invoices.list({ limit: 101 })).rejects.toMatchObject({ param: 'limit' });
  const types = ['customer.created'];
  expect((await stripe.events.list({ types })).data.map((one) => one.type)).toEqual([...types, ...types]);
});

test('what the sandbox cannot expand is refused', async () => {
  const started = await startHeldSandbox();
  const { charge } = await buy(started);
  await expect(started.stripe.charges.retrieve(charge, { expand: ['customer'] })).rejects.toMatchObject({
    statusCode: 400,
    param: 'expand',
  });
});
