import Stripe from 'stripe';
import { expect, test } from 'vitest';

import { PRICES, startHeldSandbox } from './support/held-sandbox.ts';
import type { HeldSandbox } from './support/held-sandbox.ts';
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

  const payments = await stripe.invoicePayments.list({
    status: 'paid',
    expand: ['data.payment.payment_intent.latest_charge', 'data.invoice'],
  });
  const [payment] = payments.data;
  expect(payment).toMatchObject({
    object: 'invoice_payment',
    amount_paid: 900,
    is_default: true,
    status_transitions: { paid_at: START.getTime() / 1000, canceled_at: null },
    payment: {
      type: 'payment_intent',
      payment_intent: {
        status: 'succeeded',
        amount_received: 900,
        customer,
        latest_charge: { amount: 900, paid: true, refunded: false, customer },
      },
    },
    invoice: { status: 'paid', parent: { subscription_details: { subscription } } },
  });
  for (const gone of ['charge', 'payment_intent', 'subscription']) {
    expect(payment?.invoice).not.toHaveProperty(gone);
  }
  const [charge] = (await stripe.charges.list({ customer, created: { gte: START.getTime() / 1000 } })).data;
  expect(charge).not.toHaveProperty('invoice');
  expect((await stripe.charges.list({ customer: 'cus_other' })).data).toEqual([]);
  expect((await stripe.charges.list({ created: { gt: START.getTime() / 1000 } })).data).toEqual([]);
  const { payment_intent: intent } = charge as { payment_intent: string };
  const through = await stripe.invoicePayments.list({
    payment: { type: 'payment_intent', payment_intent: intent },
  });
  expect(through.data.map((one) => one.id)).toEqual([payment?.id]);
  const other = await stripe.invoicePayments.list({
    payment: { type: 'payment_intent', payment_intent: 'pi_x' },
  });
  expect(other.data).toEqual([]);
  expect(await stripe.paymentIntents.retrieve(intent)).toMatchObject({ id: intent });
  expect(await stripe.invoicePayments.retrieve(payment?.id ?? '')).toMatchObject({ status: 'paid' });
  expect((await stripe.paymentIntents.list({ customer })).data).toHaveLength(1);
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
  const invoices = await started.stripe.invoices.list({ status: 'paid' });
  expect(invoices.data.map((one) => [one.amount_paid, one.total])).toEqual([
    [0, 0],
    [0, 0],
  ]);
  expect(started.objects.charges.size + started.objects.invoicePayments.size).toBe(0);
  // The code counted once: it is gone from the subscription and stays on the invoice that it discounted.
  const [invoice] = (await started.stripe.invoices.list({ customer, expand: ['data.discounts'] })).data;
  expect(invoice).toMatchObject({
    subtotal: 900,
    total_discount_amounts: [{ amount: 900 }],
    discounts: [{ source: { type: 'coupon' } }],
  });
  const subscriptions = await started.stripe.subscriptions.list({ customer });
  expect(subscriptions.data[0]).toMatchObject({ status: 'active', discounts: [] });
  expect(() => started.acts.pay(trial.session, { outcome: 'bank_debit' })).toThrow('not open');
});

test.each([
  ['once', undefined, [450, 900, 900]],
  ['forever', undefined, [450, 450, 450]],
  ['repeating', 2, [450, 450, 900]],
] as const)('a coupon with duration %s lowers the right invoices', async (duration, months, amounts) => {
  const started = await startHeldSandbox();
  const coupon = await started.stripe.coupons.create({
    percent_off: 50,
    duration,
    ...(months !== undefined && { duration_in_months: months }),
  });
  expect(await started.stripe.coupons.retrieve(coupon.id)).toMatchObject({ percent_off: 50, duration });
  const { session } = await openCheckout(started, { discounts: [{ coupon: coupon.id }] });
  expect(await started.stripe.checkout.sessions.retrieve(session)).toMatchObject({
    amount_subtotal: 900,
    amount_total: 450,
    total_details: { amount_discount: 450 },
  });
  started.acts.pay(session);
  started.later(65 * 24 * HOUR);
  await started.acts.advance();
  expect([...started.objects.invoices.values()].map((one) => one.amount_paid)).toEqual(amounts);
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
  const rest = await stripe.refunds.create({ payment_intent: intent, expand: ['charge'] });
  expect(rest).toMatchObject({ amount: 600, charge: { amount_refunded: 900, refunded: true } });
  await expect(stripe.refunds.create({ charge })).rejects.toMatchObject({ code: 'charge_already_refunded' });
  await expect(stripe.refunds.create({ charge: 'ch_none' })).rejects.toMatchObject({ param: 'charge' });
  await expect(stripe.refunds.create({})).rejects.toMatchObject({ code: 'parameter_missing' });
  expect((await stripe.refunds.list({ charge })).data.map((one) => one.id)).toEqual([rest.id, first.id]);
  expect((await stripe.refunds.list({ payment_intent: 'pi_x' })).data).toEqual([]);
  started.fresh();

  started.acts.failRefund(rest.id);
  expect(started.told()).toEqual(['refund.failed', 'refund.updated']);
  expect(await stripe.refunds.retrieve(rest.id)).toMatchObject({ status: 'failed' });
  const [whole] = (await stripe.charges.list({ payment_intent: intent, expand: ['data.refunds'] })).data;
  expect(whole).toMatchObject({ amount_refunded: 300, refunded: false });
  expect(whole?.refunds?.data).toHaveLength(2);
  expect(() => {
    started.acts.failRefund(rest.id);
  }).toThrow('already failed');
});

test('accepting a dispute loses it, and it can be won later', async () => {
  const started = await startHeldSandbox();
  const { stripe } = started;
  const { charge, intent } = await buy(started);
  const id = started.acts.openDispute(intent);
  expect(started.told()).toEqual(['charge.dispute.created']);
  expect(await stripe.disputes.retrieve(id, { expand: ['charge', 'payment_intent'] })).toMatchObject({
    status: 'needs_response',
    charge: { id: charge, disputed: true },
    payment_intent: { id: intent },
  });
  await expect(stripe.refunds.create({ charge })).rejects.toMatchObject({ code: 'charge_disputed' });
  expect(() => started.acts.openDispute(charge)).toThrow('is already disputed');
  expect(await stripe.disputes.close(id)).toMatchObject({ status: 'lost' });
  expect(started.told()).toEqual(['charge.dispute.closed']);
  await expect(stripe.disputes.close(id)).rejects.toMatchObject({ statusCode: 400 });
  started.acts.closeDispute(id, 'won');
  const [updated] = started.fresh();
  expect(updated).toMatchObject({
    type: 'charge.dispute.updated',
    data: { object: { status: 'won' }, previous_attributes: { status: 'lost' } },
  });
  expect(() => {
    started.acts.closeDispute(id, 'lost');
  }).toThrow('is already won');
  expect((await stripe.disputes.list({ charge })).data.map((one) => one.status)).toEqual(['won']);
  expect((await stripe.disputes.list({ payment_intent: 'pi_x' })).data).toEqual([]);
});

test('a bank debit completes the checkout unpaid and settles later', async () => {
  const started = await startHeldSandbox();
  const { session, subscription } = await buy(started, { outcome: 'bank_debit' });
  expect(
    await started.stripe.checkout.sessions.retrieve(session, { expand: ['subscription', 'invoice'] }),
  ).toMatchObject({
    status: 'complete',
    payment_status: 'unpaid',
    subscription: { id: subscription, status: 'active' },
    invoice: { status: 'open', amount_paid: 0 },
  });
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
  expect(
    await started.stripe.subscriptions.retrieve(id, { expand: ['latest_invoice.payments', 'customer'] }),
  ).toMatchObject({
    status: 'incomplete',
    customer: { email: 'ann@example.com' },
    latest_invoice: { status: 'open', payments: { data: [{ status: 'open' }] } },
  });
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
  expect(started.acts.pay(session, { outcome: 'declined' })).toEqual({ paid: false, subscription: null });
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
    [() => acts.openDispute('pi_none'), 'no charge'],
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
  const ann = await stripe.customers.create({ email: 'ann@example.com', metadata: { a: '1', b: '2' } });
  const ben = await stripe.customers.create({ email: 'ben@example.com', test_clock: 'clock_1' });
  started.fresh();
  const changed = await stripe.customers.update(ann.id, { name: 'Ann', metadata: { b: '', c: '3' } });
  expect(changed).toMatchObject({ name: 'Ann', email: 'ann@example.com', metadata: { a: '1', c: '3' } });
  expect(changed.metadata).not.toHaveProperty('b');
  const [updated, ...more] = started.fresh();
  expect(more).toEqual([]);
  expect(updated).toMatchObject({
    type: 'customer.updated',
    data: { previous_attributes: { name: null, metadata: { b: '2' } } },
  });
  await stripe.customers.update(ann.id, { name: 'Ann' });
  expect(started.told()).toEqual([]);

  const ids = async (query: Stripe.CustomerListParams) =>
    (await stripe.customers.list(query)).data.map((one) => one.id);
  expect(await ids({})).toEqual([ann.id]);
  expect(await ids({ email: 'ben@example.com' })).toEqual([]);
  expect(await ids({ test_clock: 'clock_1' })).toEqual([ben.id]);
  await stripe.customers.del(ann.id);
  expect(await ids({})).toEqual([]);
});

test('objects on a test clock name it', async () => {
  const started = await startHeldSandbox();
  const { stripe } = started;
  const customer = await stripe.customers.create({ test_clock: 'clock_1' });
  const { session } = await openCheckout(started, { customer: customer.id });
  started.acts.pay(session);
  const [own] = (await stripe.subscriptions.list({ customer: customer.id, expand: ['data.latest_invoice'] }))
    .data;
  expect(own).toMatchObject({ test_clock: 'clock_1', latest_invoice: { test_clock: 'clock_1' } });
  expect((await stripe.subscriptions.list()).data).toEqual([]);
  expect((await stripe.subscriptions.list({ test_clock: 'clock_1' })).data).toHaveLength(1);
});

test('lists can be filtered', async () => {
  const started = await startHeldSandbox();
  const { stripe } = started;
  const { customer, session, subscription } = await buy(started);
  started.later(HOUR);
  const other = await openCheckout(started, { line_items: [{ price: PRICES.annual }] });
  started.acts.pay(other.session);
  const since = START.getTime() / 1000 + 1;

  const found = async (list: Promise<Stripe.ApiList<{ id: string }>>) =>
    (await list).data.map((one) => one.id);
  expect(await found(stripe.checkout.sessions.list({ customer }))).toEqual([session]);
  expect(await found(stripe.checkout.sessions.list({ subscription }))).toEqual([session]);
  expect(await found(stripe.checkout.sessions.list({ status: 'open' }))).toEqual([]);
  expect(await found(stripe.checkout.sessions.list({ created: { gte: since } }))).toEqual([other.session]);
  expect(await found(stripe.subscriptions.list({ price: PRICES.monthly }))).toEqual([subscription]);
  expect(await found(stripe.subscriptions.list({ created: { lt: since } }))).toEqual([subscription]);
  expect(await found(stripe.subscriptions.list({ status: 'past_due' }))).toEqual([]);
  const invoices = [...started.objects.invoices.keys()];
  expect(await found(stripe.invoices.list({ subscription }))).toEqual([invoices[0]]);
  expect(await found(stripe.invoices.list({ customer: other.customer }))).toEqual([invoices[1]]);
  expect(await found(stripe.invoices.list({ created: { gte: since }, status: 'paid' }))).toEqual([
    invoices[1],
  ]);
  expect(await found(stripe.invoices.list({ status: 'open' }))).toEqual([]);
});

test('only references can be expanded, and only to a limited depth', async () => {
  const started = await startHeldSandbox();
  const { charge } = await buy(started);
  const { stripe } = started;
  const sentence = expect.stringContaining('cannot') as unknown;
  for (const path of ['id', 'nothing', 'customer.nothing', 'customer.customer.customer.customer.customer']) {
    await expect(stripe.charges.retrieve(charge, { expand: [path] })).rejects.toMatchObject({
      statusCode: 400,
      message: sentence,
    });
  }
  // Nothing is left of it: the next answer is as short as before.
  await stripe.charges.retrieve(charge, { expand: ['customer'] });
  expect(typeof (await stripe.charges.retrieve(charge)).customer).toBe('string');
});
