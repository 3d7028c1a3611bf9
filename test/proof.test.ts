import { describe, expect, test } from 'vitest';

import { grantCredit } from '../src/operator/grant-credit.ts';
import { commandContext } from './support/command-context.ts';
import { invitedFriend } from './support/invited-friend.ts';
import { daysAfter, deliver, deliverAll, signUp, START, startTestServer, userRow } from './support/server.ts';
import type { TestServer } from './support/server.ts';
import { buyer, epoch, stripeId } from './support/stripe-events.ts';
import type { Buyer } from './support/stripe-events.ts';

/** A friend whose checkout is complete; nothing more is known yet. */
async function friendAfterCheckout(server: TestServer) {
  const people = await invitedFriend(server);
  await deliverAll(server, [people.stripe.checkoutCompleted()]);
  return people;
}

async function converted(server: TestServer, friendId: string): Promise<boolean> {
  const { convertedAt } = await server.db.referral.findUniqueOrThrow({ where: { referredId: friendId } });
  return convertedAt !== null;
}

/** A trial of 7 days, from its start to the hour in which Stripe calls it active. */
const TRIAL_END = { trial_end: epoch(daysAfter(7)) };
const trialStarts = (stripe: Buyer) => [
  stripe.created({ status: 'trialing', ...TRIAL_END }),
  stripe.invoicePaid({ amount_paid: 0 }),
];
const trialTurnsActive = (stripe: Buyer) =>
  stripe.updated({ status: 'active', ...TRIAL_END }, { at: daysAfter(7), previous: { status: 'trialing' } });

describe('a trial', () => {
  test('a trial gives the tier trial, and converts with its first positive invoice', async () => {
    const server = await startTestServer();
    const { referrer, friend, stripe } = await friendAfterCheckout(server);
    await deliverAll(server, trialStarts(stripe));
    expect(await userRow(server, friend.id)).toMatchObject({ tier: 'trial', creditHeldAt: null });

    server.clock.now = daysAfter(7);
    await deliverAll(server, [trialTurnsActive(stripe)]);
    expect(await userRow(server, friend.id)).toMatchObject({ tier: 'paid' });
    expect(await converted(server, friend.id)).toBe(false);

    const cycle = { id: stripeId('in'), billing_reason: 'subscription_cycle' };
    await deliverAll(server, [stripe.invoicePaid(cycle, { at: daysAfter(7) })]);
    expect(await converted(server, friend.id)).toBe(true);
    expect(await userRow(server, referrer.id)).toMatchObject({ creditUntil: daysAfter(52) });
  });

  test('a trial whose card fails never converts: past_due without a payment is free', async () => {
    const server = await startTestServer();
    const { referrer, friend, stripe } = await friendAfterCheckout(server);
    await deliverAll(server, trialStarts(stripe));
    server.clock.now = daysAfter(8);
    await deliverAll(server, [
      trialTurnsActive(stripe),
      stripe.updated(
        { status: 'past_due', ...TRIAL_END },
        { at: daysAfter(8), previous: { status: 'active' } },
      ),
    ]);
    expect(await userRow(server, friend.id)).toMatchObject({ tier: 'free' });
    server.clock.now = daysAfter(30);
    await deliverAll(server, [stripe.ended(daysAfter(30), TRIAL_END)]);
    expect(await converted(server, friend.id)).toBe(false);
    expect(await userRow(server, referrer.id)).toMatchObject({ creditUntil: null });
  });

  test('a trial does not hold credit: it runs on', async () => {
    const server = await startTestServer();
    const person = await signUp(server, 'person@example.com');
    await grantCredit(commandContext(server), person.email, 30, undefined);
    const own = buyer(person.id);
    await deliverAll(server, [own.checkoutCompleted(), ...trialStarts(own)]);
    expect(await userRow(server, person.id)).toMatchObject({
      tier: 'trial',
      creditUntil: daysAfter(30),
      creditHeldAt: null,
    });
  });
});

describe('active that may not mean money', () => {
  test.each([
    ['a coupon of 100%', { discounts: ['di_1'] }],
    ['a coupon of 100% in the shape of older APIs', { discount: { id: 'di_1' }, discounts: undefined }],
    ['an invoice that is sent', { collection_method: 'send_invoice' }],
    ['a price of zero', { items: { data: [{ price: { id: 'price_free', unit_amount: 0 } }] } }],
  ])('%s does not convert until money comes', async (_name, fields) => {
    const server = await startTestServer();
    const { friend, stripe } = await friendAfterCheckout(server);
    await deliverAll(server, [stripe.created(fields)]);
    expect(await userRow(server, friend.id)).toMatchObject({ tier: 'paid' });
    expect(await converted(server, friend.id)).toBe(false);

    // The coupon is gone from the subscription once its one invoice has consumed it.
    await deliverAll(server, [
      stripe.updated({}, { at: daysAfter(1) }),
      stripe.invoicePaid({ amount_paid: 0 }),
    ]);
    expect(await converted(server, friend.id)).toBe(false);

    server.clock.now = daysAfter(31);
    const cycle = { id: stripeId('in'), billing_reason: 'subscription_cycle' };
    await deliverAll(server, [stripe.invoicePaid(cycle, { at: daysAfter(31) })]);
    expect(await converted(server, friend.id)).toBe(true);
  });

  test('a checkout with a bank debit under way does not convert until its invoice is paid', async () => {
    const server = await startTestServer();
    const { friend, stripe } = await friendAfterCheckout(server);
    await deliverAll(server, [stripe.checkoutCompleted({ payment_status: 'unpaid' }), stripe.created()]);
    expect(await converted(server, friend.id)).toBe(false);
    await deliverAll(server, [stripe.invoicePaid()]);
    expect(await converted(server, friend.id)).toBe(true);
  });

  test('a discount given later does not undo an earlier payment', async () => {
    const server = await startTestServer();
    const { friend, stripe } = await friendAfterCheckout(server);
    await deliverAll(server, [
      stripe.created(),
      stripe.updated({ discounts: ['di_1'] }, { at: daysAfter(1) }),
    ]);
    const referral = await server.db.referral.findUniqueOrThrow({ where: { referredId: friend.id } });
    expect(referral).toMatchObject({ convertedAt: START, reversedAt: null });
  });

  test('past_due after a payment stays paid', async () => {
    const server = await startTestServer();
    const { friend, stripe } = await friendAfterCheckout(server);
    await deliverAll(server, [
      stripe.created(),
      stripe.updated({ status: 'past_due' }, { at: daysAfter(31) }),
    ]);
    expect(await userRow(server, friend.id)).toMatchObject({ tier: 'paid' });
  });

  test.each(['incomplete', 'unpaid', 'paused', 'an_unknown_status'])(
    'the status %s is free',
    async (status) => {
      const server = await startTestServer();
      const { friend, stripe } = await friendAfterCheckout(server);
      await deliverAll(server, [stripe.created({ status })]);
      expect(await userRow(server, friend.id)).toMatchObject({ tier: 'free' });
      expect(await converted(server, friend.id)).toBe(false);
    },
  );
});

describe('a late first invoice of zero takes nothing', () => {
  test("from another friend's days", async () => {
    const server = await startTestServer();
    const { referrer, stripe } = await friendAfterCheckout(server);
    const other = await signUp(server, 'other@example.com', referrer.code);
    const otherStripe = buyer(other.id);
    await deliverAll(server, [stripe.created()]);
    server.clock.now = daysAfter(5);
    await deliverAll(server, [otherStripe.checkoutCompleted(), otherStripe.created()]);
    expect(await userRow(server, referrer.id)).toMatchObject({ creditUntil: daysAfter(90) });

    server.clock.now = daysAfter(20);
    await deliverAll(server, [stripe.invoicePaid({ amount_paid: 0 })]);
    expect(await userRow(server, referrer.id)).toMatchObject({ creditUntil: daysAfter(65) });

    server.clock.now = daysAfter(80);
    const cycle = { id: stripeId('in'), billing_reason: 'subscription_cycle' };
    await deliverAll(server, [stripe.invoicePaid(cycle, { at: daysAfter(80) })]);
    expect(await userRow(server, referrer.id)).toMatchObject({ creditUntil: daysAfter(105) });
  });

  test('from a referrer who was already gone', async () => {
    const server = await startTestServer();
    const { referrer, friend, stripe } = await friendAfterCheckout(server);
    await server.db.user.delete({ where: { id: referrer.id } });
    await deliverAll(server, [stripe.created()]);
    await deliver(server, stripe.invoicePaid({ amount_paid: 0 }));
    expect(await userRow(server, friend.id)).toMatchObject({ creditUntil: START, creditHeldAt: START });
  });
});
