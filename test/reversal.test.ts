import { describe, expect, inject, test } from 'vitest';

import { grantCredit } from '../src/operator/grant-credit.ts';
import { commandContext } from './support/command-context.ts';
import { invitation, invitedFriend } from './support/invited-friend.ts';
import { permutations } from './support/permutations.ts';
import {
  DAY,
  daysAfter,
  deliver,
  deliverAll,
  makeTombstone,
  logInAgain,
  signUp,
  START,
  startTestServer,
  userRow,
} from './support/server.ts';
import type { Person, TestServer } from './support/server.ts';
import { deliverWaiting, passTime, paymentOf, startWorld, subscribe } from './support/stand-in.ts';
import { buyer, epoch, stripeId } from './support/stripe-events.ts';
import type { Buyer } from './support/stripe-events.ts';

/** A referrer, the friend they invited, and the friend's Stripe objects. */
interface Story {
  server: TestServer;
  referrer: Person;
  friend: Person;
  stripe: Buyer;
}

const purchase = (stripe: Buyer) => [
  stripe.checkoutCompleted(),
  stripe.created(),
  stripe.invoicePaid(),
  stripe.invoicePaymentPaid(),
];

/** A friend who paid at START: both have 45 days, and the friend's are paused. */
async function conversion(env: NodeJS.ProcessEnv = {}): Promise<Story> {
  const story = await invitation(env);
  await deliverAll(story.server, purchase(story.stripe));
  expect(await stateOf(story)).toEqual(HOLDS);
  return story;
}

/** Delivers events on a day; each must be answered `ok`, or with the given status. */
async function onDay({ server }: Story, day: number, events: object[], status?: string): Promise<void> {
  server.clock.now = daysAfter(day);
  await deliverAll(server, events, status);
}

/** The credit of both, after checking their ledgers, and the referral's state. */
async function stateOf({ server, referrer, friend }: Story) {
  const [referrersRow, friendsRow] = [await userRow(server, referrer.id), await userRow(server, friend.id)];
  const referral = await server.db.referral.findUniqueOrThrow({ where: { referredId: friend.id } });
  return {
    friend: { creditUntil: friendsRow.creditUntil, creditHeldAt: friendsRow.creditHeldAt },
    referrer: { creditUntil: referrersRow.creditUntil, creditHeldAt: referrersRow.creditHeldAt },
    convertedAt: referral.convertedAt,
    reversedAt: referral.reversedAt,
  };
}

const HOLDS = {
  friend: { creditUntil: daysAfter(45), creditHeldAt: START },
  referrer: { creditUntil: daysAfter(45), creditHeldAt: null },
  convertedAt: START,
  reversedAt: null,
};

/** Reversed on a day while the friend pays: from then on neither has any days left. */
const reversedOn = (day: number) => ({
  friend: { creditUntil: daysAfter(day), creditHeldAt: daysAfter(day) },
  referrer: { creditUntil: daysAfter(day), creditHeldAt: null },
  convertedAt: START,
  reversedAt: daysAfter(day),
});

/** Reversed on one day, restored on a later one: the friend gets 45 days back, the referrer what was taken. */
const restoredOn = (day: number, reversed: number) => ({
  friend: { creditUntil: daysAfter(day + 45), creditHeldAt: daysAfter(day) },
  referrer: { creditUntil: daysAfter(day + 45 - reversed), creditHeldAt: null },
  convertedAt: START,
  reversedAt: null,
});

/** Kind and days of a user's credit ledger, without holds. */
async function movesOf({ server }: Story, person: Person): Promise<[string, number][]> {
  const entries = await server.db.creditEntry.findMany({
    where: { userId: person.id, kind: { notIn: ['hold', 'resume'] } },
    orderBy: { seq: 'asc' },
  });
  return entries.map(({ kind, seconds }) => [kind, seconds / DAY]);
}

describe('a full refund', () => {
  test('takes what is unspent from both, and is in the audit', async () => {
    const story = await conversion();
    const refund = story.stripe.chargeRefunded({}, { at: daysAfter(20) });
    await onDay(story, 20, [refund]);
    expect(await stateOf(story)).toEqual(reversedOn(20));
    // The friend's 45 days were held; of the referrer's, 20 are spent.
    expect(await movesOf(story, story.friend)).toEqual([
      ['grant', 45],
      ['reversal', 45],
    ]);
    expect(await movesOf(story, story.referrer)).toEqual([
      ['grant', 45],
      ['reversal', 25],
    ]);
    const { db } = story.server;
    const audit = await db.auditRow.findMany({ where: { causeId: refund.id }, orderBy: { seconds: 'asc' } });
    expect(audit).toMatchObject([
      { userId: story.friend.id, kind: 'credit', actor: 'stripe', seconds: -45 * DAY, at: daysAfter(20) },
      { userId: story.referrer.id, kind: 'credit', actor: 'stripe', seconds: -25 * DAY, at: daysAfter(20) },
    ]);
  });

  test('a redelivered refund, or a second event of the same refund, takes nothing more', async () => {
    const story = await conversion();
    const refund = story.stripe.chargeRefunded({}, { at: daysAfter(20) });
    await onDay(story, 20, [refund]);
    await onDay(story, 21, [refund], 'duplicate');
    expect(await stateOf(story)).toEqual(reversedOn(20));
    await onDay(story, 22, [story.stripe.chargeRefunded({}, { at: daysAfter(20) })], 'ignored');
    await onDay(story, 23, [story.stripe.chargeRefunded({}, { at: daysAfter(21) })]);
    expect(await stateOf(story)).toEqual(reversedOn(20));
    expect(await story.server.db.creditEntry.count({ where: { kind: 'reversal' } })).toBe(2);
  });

  test('a refund made in time still counts when a second event of it arrives after the limit', async () => {
    const story = await conversion();
    await onDay(story, 30, [story.stripe.chargeRefunded({}, { at: daysAfter(30) })]);
    await onDay(story, 31, [story.stripe.chargeRefunded({}, { at: daysAfter(31) })]);
    expect(await stateOf(story)).toEqual(reversedOn(30));
  });

  test('leaves the tier alone: the subscription decides it', async () => {
    const story = await conversion();
    await onDay(story, 20, [story.stripe.chargeRefunded({}, { at: daysAfter(20) })]);
    expect(await userRow(story.server, story.friend.id)).toMatchObject({ tier: 'paid' });
  });

  test("a refund removes the referral from the referrer's counts, and a failed refund puts it back", async () => {
    const story = await conversion();
    const counts = async (): Promise<object> => {
      const answer = await story.server.app.inject({
        url: '/api/me',
        headers: { cookie: story.referrer.cookie },
      });
      const { referral } = answer.json<{ referral: object }>();
      return referral;
    };
    expect(await counts()).toMatchObject({ invited: 1, converted: 1, activeCredits: 1 });
    await onDay(story, 10, [story.stripe.chargeRefunded({}, { at: daysAfter(10) })]);
    expect(await counts()).toMatchObject({ invited: 1, converted: 0, activeCredits: 0 });
    await onDay(story, 12, [story.stripe.refundFailed({}, { at: daysAfter(12) })]);
    expect(await counts()).toMatchObject({ invited: 1, converted: 1, activeCredits: 1 });
  });

  test('a full refund takes no days from other friends or operator grants', async () => {
    const story = await conversion();
    const other = await signUp(story.server, 'other@example.com', story.referrer.code);
    await onDay(story, 5, purchase(buyer(other.id)));
    await grantCredit(commandContext(story.server), story.referrer.email, 10, undefined);
    expect(await userRow(story.server, story.referrer.id)).toMatchObject({ creditUntil: daysAfter(100) });
    await onDay(story, 20, [story.stripe.chargeRefunded({}, { at: daysAfter(20) })]);
    // Of the days from the refunded friend, 20 were spent.
    expect(await userRow(story.server, story.referrer.id)).toMatchObject({ creditUntil: daysAfter(75) });
    expect(await userRow(story.server, other.id)).toMatchObject({ creditUntil: daysAfter(50) });
  });

  test('of somebody whom nobody referred changes nothing', async () => {
    const server = await startTestServer();
    const loner = await signUp(server, 'loner@example.com');
    const stripe = buyer(loner.id);
    await deliverAll(server, [...purchase(stripe), stripe.chargeRefunded()]);
    expect(await userRow(server, loner.id)).toMatchObject({ tier: 'paid', creditUntil: null });
    expect(await server.db.auditRow.count()).toBe(1);
  });

  test('the renewal after a refund returns the days once, and no renewal converts', async () => {
    const story = await conversion();
    await onDay(story, 20, [story.stripe.chargeRefunded({}, { at: daysAfter(20) })]);
    for (const day of [31, 62]) {
      const invoice = stripeId('in');
      await onDay(story, day, [
        story.stripe.updated(
          { items: { data: [{ price: { id: 'price_m' }, current_period_end: epoch(daysAfter(day + 31)) }] } },
          { at: daysAfter(day) },
        ),
        story.stripe.invoicePaid(
          { id: invoice, billing_reason: 'subscription_cycle' },
          { at: daysAfter(day) },
        ),
        story.stripe.invoicePaymentPaid(
          { invoice, payment: { type: 'payment_intent', payment_intent: stripeId('pi') } },
          { at: daysAfter(day) },
        ),
      ]);
      expect(await stateOf(story)).toEqual(restoredOn(31, 20));
    }
    expect(await story.server.db.creditEntry.count({ where: { kind: 'grant' } })).toBe(2);
  });

  test('no longer counts once the friend cancels and buys again', async () => {
    const story = await conversion();
    await onDay(story, 20, [
      story.stripe.chargeRefunded({}, { at: daysAfter(20) }),
      story.stripe.ended(daysAfter(20)),
    ]);
    const again = buyer(story.friend.id);
    await onDay(story, 60, [
      again.checkoutCompleted({}, { at: daysAfter(60) }),
      again.created({ created: epoch(daysAfter(60)) }, { at: daysAfter(60) }),
      again.invoicePaid({}, { at: daysAfter(60) }),
      again.invoicePaymentPaid({}, { at: daysAfter(60) }),
    ]);
    expect(await stateOf(story)).toMatchObject({
      friend: { creditUntil: daysAfter(105), creditHeldAt: daysAfter(60) },
      referrer: { creditUntil: daysAfter(85) },
      reversedAt: null,
    });
    expect(await userRow(story.server, story.friend.id)).toMatchObject({ tier: 'paid' });
  });
});

describe('REFERRAL_CLAWBACK_DAYS', () => {
  const second = 1 / DAY;

  test.each([
    [undefined, 30],
    ['7', 7],
    ['0', 0],
  ])(
    'with the limit %s, a refund exactly %i days after the payment counts, and one second later it does not',
    async (...args) => {
      const [value, days] = args;
      const env = value === undefined ? {} : { REFERRAL_CLAWBACK_DAYS: value };
      const inTime = await conversion(env);
      await onDay(inTime, days, [inTime.stripe.chargeRefunded({}, { at: daysAfter(days) })]);
      expect(await stateOf(inTime)).toEqual(reversedOn(days));

      const late = await conversion(env);
      const after = daysAfter(days + second);
      await onDay(late, days + second, [late.stripe.chargeRefunded({}, { at: after })]);
      expect(await stateOf(late)).toEqual(HOLDS);
    },
  );

  test('a dispute opened exactly at the limit counts, and one opened a second later does not', async () => {
    const story = await conversion();
    const late = story.stripe.dispute(daysAfter(30 + second));
    await onDay(story, 31, [late.opened(), late.lost(daysAfter(31))]);
    expect(await stateOf(story)).toEqual(HOLDS);
    const inTime = story.stripe.dispute(daysAfter(30));
    await onDay(story, 32, [inTime.opened(), inTime.lost(daysAfter(32))]);
    expect(await stateOf(story)).toEqual(reversedOn(32));
  });

  test('the limit counts from the first payment, not the sign-up: after a trial of 7 days, until day 37', async () => {
    const story = await invitation();
    const { stripe } = story;
    const trial = { trial_end: epoch(daysAfter(7)) };
    const cycle = { id: stripeId('in'), billing_reason: 'subscription_cycle' };
    await onDay(story, 0, [
      stripe.checkoutCompleted(),
      stripe.created({ status: 'trialing', ...trial }),
      stripe.invoicePaid({ amount_paid: 0 }),
    ]);
    await onDay(story, 7, [
      stripe.updated(trial, { at: daysAfter(7), previous: { status: 'trialing' } }),
      stripe.invoicePaid(cycle, { at: daysAfter(7) }),
      stripe.invoicePaymentPaid({ invoice: cycle.id }, { at: daysAfter(7) }),
    ]);
    await onDay(story, 37, [stripe.chargeRefunded({}, { at: daysAfter(37) })]);
    expect(await stateOf(story)).toEqual({ ...reversedOn(37), convertedAt: daysAfter(7) });
  });

  test('a refund counts by when it happened, not when we heard of it', async () => {
    const story = await conversion();
    await onDay(story, 40, [story.stripe.chargeRefunded({}, { at: daysAfter(10) })]);
    expect(await stateOf(story)).toEqual(reversedOn(40));
  });
});

describe('partial refunds', () => {
  const part = (amount_refunded: number) => ({ refunded: false, amount_refunded });

  test('take nothing, even when there are several', async () => {
    const story = await conversion();
    await onDay(
      story,
      5,
      [100, 500, 899].map((cents, day) =>
        story.stripe.chargeRefunded(part(cents), { at: daysAfter(day + 1) }),
      ),
      'ignored',
    );
    expect(await stateOf(story)).toEqual(HOLDS);
  });

  test('that add up to the whole sum take the days, and a late one gives nothing back', async () => {
    const story = await conversion();
    const [first, second] = [400, 800].map((cents, day) =>
      story.stripe.chargeRefunded(part(cents), { at: daysAfter(day + 1) }),
    );
    await onDay(story, 1, [first ?? {}], 'ignored');
    await onDay(story, 3, [story.stripe.chargeRefunded({}, { at: daysAfter(3) })]);
    expect(await stateOf(story)).toEqual(reversedOn(3));
    await onDay(story, 4, [second ?? {}], 'ignored');
    expect(await stateOf(story)).toEqual(reversedOn(3));
  });

  test('that add up to the whole sum after the limit take nothing', async () => {
    const story = await conversion();
    await onDay(story, 29, [story.stripe.chargeRefunded(part(899), { at: daysAfter(29) })], 'ignored');
    await onDay(story, 31, [story.stripe.chargeRefunded({}, { at: daysAfter(31) })]);
    expect(await stateOf(story)).toEqual(HOLDS);
  });
});

describe('a refund that fails', () => {
  test('gives back exactly what it took, once; the next one takes again', async () => {
    const story = await conversion();
    const failed = story.stripe.refundFailed({}, { at: daysAfter(12) });
    await onDay(story, 10, [story.stripe.chargeRefunded({}, { at: daysAfter(10) })]);
    await onDay(story, 12, [failed]);
    expect(await stateOf(story)).toEqual(restoredOn(12, 10));
    await onDay(story, 13, [failed], 'duplicate');
    await onDay(story, 13, [story.stripe.refundFailed({}, { at: daysAfter(12) })], 'ignored');
    expect(await stateOf(story)).toEqual(restoredOn(12, 10));
    await onDay(story, 15, [story.stripe.chargeRefunded({}, { at: daysAfter(15) })]);
    expect(await stateOf(story)).toEqual(reversedOn(15));
    expect(await movesOf(story, story.referrer)).toEqual([
      ['grant', 45],
      ['reversal', 35],
      ['restoration', 35],
      ['reversal', 32],
    ]);
  });

  test('and is made again after the limit takes nothing', async () => {
    const story = await conversion();
    await onDay(story, 10, [story.stripe.chargeRefunded({}, { at: daysAfter(10) })]);
    await onDay(story, 12, [story.stripe.refundFailed({}, { at: daysAfter(12) })]);
    await onDay(story, 31, [story.stripe.chargeRefunded({}, { at: daysAfter(31) })]);
    expect(await stateOf(story)).toEqual(restoredOn(12, 10));
  });

  const orders = permutations(['refunded', 'failed', 'refunded again'] as const);
  test.each(orders.map((order) => [order.join(', ')]))(
    'a failed and repeated refund ends the same in this order: %s',
    async (order) => {
      const story = await conversion();
      const events = {
        refunded: story.stripe.chargeRefunded({}, { at: daysAfter(10) }),
        failed: story.stripe.refundFailed({}, { at: daysAfter(12) }),
        'refunded again': story.stripe.chargeRefunded({}, { at: daysAfter(15) }),
      };
      story.server.clock.now = daysAfter(16);
      for (const key of order.split(', ') as (keyof typeof events)[])
        expect((await deliver(story.server, events[key])).statusCode).toBe(200);
      expect(await stateOf(story)).toEqual(reversedOn(16));
    },
  );

  test('and whose failure arrives first takes nothing', async () => {
    const story = await conversion();
    await onDay(story, 12, [
      story.stripe.refundFailed({}, { at: daysAfter(12) }),
      story.stripe.chargeRefunded({}, { at: daysAfter(10) }),
    ]);
    expect(await stateOf(story)).toEqual(HOLDS);
  });
});

describe('a dispute', () => {
  test('that is open takes nothing, whatever its status is called', async () => {
    const story = await conversion();
    const dispute = story.stripe.dispute(daysAfter(5));
    await onDay(story, 5, [dispute.opened()]);
    const statuses = ['under_review', 'warning_needs_response', 'warning_under_review'];
    const updates = statuses.map((status, index) => dispute.updated(status, daysAfter(6 + index)));
    await onDay(story, 10, updates);
    expect(await stateOf(story)).toEqual(HOLDS);
  });

  test('a dispute opened on day 5 and lost on day 70 takes what is unspent on day 70', async () => {
    const story = await conversion();
    const dispute = story.stripe.dispute(daysAfter(5));
    await onDay(story, 5, [dispute.opened()]);
    await onDay(story, 70, [dispute.lost(daysAfter(70))]);
    // The friend's days were held, so all are taken; the referrer's ran out on day 45.
    expect(await stateOf(story)).toEqual({
      ...reversedOn(70),
      referrer: { creditUntil: daysAfter(45), creditHeldAt: null },
    });
  });

  test('a dispute opened after the limit takes nothing, even when it is lost', async () => {
    const story = await conversion();
    const dispute = story.stripe.dispute(daysAfter(31));
    await onDay(story, 40, [dispute.opened(), dispute.lost(daysAfter(40))]);
    expect(await stateOf(story)).toEqual(HOLDS);
  });

  test('a dispute that is won takes nothing, and a late snapshot that says lost is ignored', async () => {
    const story = await conversion();
    const dispute = story.stripe.dispute(daysAfter(5));
    await onDay(story, 20, [dispute.opened(), dispute.won(daysAfter(20))]);
    await onDay(story, 21, [dispute.lost(daysAfter(19))], 'ignored');
    expect(await stateOf(story)).toEqual(HOLDS);
  });

  test('won after it was lost gives back exactly what it took, once', async () => {
    const story = await conversion();
    const dispute = story.stripe.dispute(daysAfter(5));
    await onDay(story, 10, [dispute.opened(), dispute.lost(daysAfter(10))]);
    expect(await stateOf(story)).toEqual(reversedOn(10));
    const won = dispute.wonAfterAll(daysAfter(12));
    await onDay(story, 12, [won]);
    expect(await stateOf(story)).toEqual(restoredOn(12, 10));
    await onDay(story, 13, [won], 'duplicate');
    await onDay(story, 13, [dispute.wonAfterAll(daysAfter(13))]);
    expect(await stateOf(story)).toEqual(restoredOn(12, 10));
  });

  test('a dispute lost and won in one second is won, in either order', async () => {
    for (const swapped of [false, true]) {
      const story = await conversion();
      const dispute = story.stripe.dispute(daysAfter(5));
      const events = [dispute.lost(daysAfter(10)), dispute.wonAfterAll(daysAfter(10))];
      story.server.clock.now = daysAfter(10);
      for (const event of swapped ? events.reverse() : events)
        expect((await deliver(story.server, event)).statusCode).toBe(200);
      expect((await stateOf(story)).reversedAt).toBeNull();
    }
  });

  test('winning a dispute does not undo a refund', async () => {
    const story = await conversion();
    const dispute = story.stripe.dispute(daysAfter(11));
    await onDay(story, 10, [story.stripe.chargeRefunded({}, { at: daysAfter(10) })]);
    await onDay(story, 20, [dispute.opened(), dispute.won(daysAfter(20))]);
    expect(await stateOf(story)).toEqual(reversedOn(10));
  });

  test('when a dispute beside a refund is lost and then won, the refund still stands', async () => {
    const story = await conversion();
    const dispute = story.stripe.dispute(daysAfter(5));
    await onDay(story, 10, [dispute.opened(), dispute.lost(daysAfter(10))]);
    await onDay(story, 11, [story.stripe.chargeRefunded({}, { at: daysAfter(11) })]);
    await onDay(story, 20, [dispute.wonAfterAll(daysAfter(20))]);
    expect(await stateOf(story)).toEqual(reversedOn(10));
  });

  test('a lost dispute still counts when a refund beside it fails', async () => {
    const story = await conversion();
    const dispute = story.stripe.dispute(daysAfter(5));
    await onDay(story, 10, [dispute.opened(), dispute.lost(daysAfter(10))]);
    await onDay(story, 12, [
      story.stripe.chargeRefunded({}, { at: daysAfter(11) }),
      story.stripe.refundFailed({}, { at: daysAfter(12) }),
    ]);
    expect(await stateOf(story)).toEqual(reversedOn(10));
  });

  test('of two disputes one lost is enough, and winning the other returns nothing', async () => {
    const story = await conversion();
    const [first, second] = [story.stripe.dispute(daysAfter(2)), story.stripe.dispute(daysAfter(3))];
    await onDay(story, 10, [first.opened(), second.opened(), second.lost(daysAfter(10))]);
    await onDay(story, 11, [first.won(daysAfter(11))]);
    expect(await stateOf(story)).toEqual(reversedOn(10));
  });

  test('that arrives before its payment is tied to an invoice waits for that', async () => {
    const story = await invitation();
    const { stripe } = story;
    const dispute = stripe.dispute(daysAfter(1));
    await onDay(story, 0, [stripe.checkoutCompleted(), stripe.created(), stripe.invoicePaid()]);
    await onDay(story, 2, [dispute.opened(), dispute.lost(daysAfter(2))]);
    expect(await stateOf(story)).toEqual(HOLDS);
    await onDay(story, 3, [stripe.invoicePaymentPaid()]);
    expect(await stateOf(story)).toEqual(reversedOn(3));
  });
});

describe('the events of a purchase and its refund in any order end in the same rows', () => {
  const keys = ['created', 'checkout', 'invoice.paid', 'invoice_payment.paid', 'charge.refunded'] as const;
  const minute = (n: number): Date => new Date(START.getTime() + n * 60_000);

  test.each(keys)('with %s first, whatever the order of the others', async (first) => {
    const server = await startTestServer();
    server.clock.now = daysAfter(1);
    const orders = permutations(keys).filter(([key]) => key === first);
    // 24 orders take seconds, so the short run tries every third one.
    const tried = orders.filter((_, index) => inject('thorough') || index % 3 === 0);
    for (const [index, order] of tried.entries()) {
      const name = order.join(', ');
      const referrer = await signUp(server, `referrer${index}@example.com`);
      const friend = await signUp(server, `friend${index}@example.com`, referrer.code);
      const stripe = buyer(friend.id);
      const events = {
        created: stripe.created({}, { at: minute(0) }),
        checkout: stripe.checkoutCompleted({}, { at: minute(1) }),
        'invoice.paid': stripe.invoicePaid({}, { at: minute(2) }),
        'invoice_payment.paid': stripe.invoicePaymentPaid({}, { at: minute(3) }),
        'charge.refunded': stripe.chargeRefunded({}, { at: minute(4) }),
      };
      for (const key of order) expect((await deliver(server, events[key])).json()).toEqual({ status: 'ok' });

      const end = { creditUntil: daysAfter(1), creditEntryAt: daysAfter(1) };
      expect(await userRow(server, friend.id), name).toMatchObject({
        tier: 'paid',
        creditHeldAt: daysAfter(1),
        ...end,
      });
      expect(await userRow(server, referrer.id), name).toMatchObject({
        tier: 'free',
        creditHeldAt: null,
        ...end,
      });
      const referral = await server.db.referral.findUnique({ where: { referredId: friend.id } });
      expect(referral, name).toMatchObject({
        convertedAt: daysAfter(1),
        creditedAt: daysAfter(1),
        reversedAt: daysAfter(1),
      });
    }
  });
});

describe('a refund that arrives too early', () => {
  test('a refund that arrives before the conversion waits for it', async () => {
    const story = await invitation();
    const { stripe } = story;
    await onDay(story, 1, [stripe.chargeRefunded({}, { at: daysAfter(1) })]);
    await onDay(story, 2, [stripe.invoicePaymentPaid()]);
    await onDay(story, 3, [stripe.invoicePaid()]);
    expect((await stateOf(story)).convertedAt).toBeNull();
    await onDay(story, 4, [stripe.checkoutCompleted()]);
    expect(await stateOf(story)).toEqual({
      friend: { creditUntil: daysAfter(4), creditHeldAt: null },
      referrer: { creditUntil: daysAfter(4), creditHeldAt: null },
      convertedAt: daysAfter(4),
      reversedAt: daysAfter(4),
    });
  });
});

describe('a refund in the old shape, which names its invoice', () => {
  test('waits for an invoice that arrives later', async () => {
    const story = await invitation();
    const { stripe } = story;
    const refund = stripe.chargeRefunded({ invoice: stripe.firstInvoice }, { at: daysAfter(1) });
    await onDay(story, 1, [refund]);
    await onDay(story, 2, [stripe.checkoutCompleted(), stripe.created(), stripe.invoicePaid()]);
    expect(await stateOf(story)).toMatchObject({ convertedAt: daysAfter(2), reversedAt: daysAfter(2) });
  });

  test('is kept when the invoice is of something other than a subscription', async () => {
    const story = await conversion();
    const { stripe } = story;
    const other = { payment_intent: stripeId('pi'), invoice: stripeId('in') };
    await onDay(story, 1, [stripe.chargeRefunded(other, { at: daysAfter(1) })]);
    expect(await stateOf(story)).toEqual(HOLDS);
  });
});

describe('which payments count for a reversal', () => {
  const paymentOfInvoice = (stripe: Buyer, payment: string, invoice: string) =>
    stripe.invoicePaymentPaid({ invoice, payment: { type: 'payment_intent', payment_intent: payment } });

  test('an invoice paid in two parts goes back only when both parts do', async () => {
    const story = await conversion();
    const { stripe } = story;
    const second = stripeId('pi');
    await onDay(story, 1, [paymentOfInvoice(stripe, second, stripe.firstInvoice)]);
    await onDay(story, 10, [stripe.chargeRefunded({}, { at: daysAfter(10) })]);
    expect(await stateOf(story)).toEqual(HOLDS);
    await onDay(story, 12, [
      stripe.chargeRefunded({ id: stripeId('ch'), payment_intent: second }, { at: daysAfter(12) }),
    ]);
    expect(await stateOf(story)).toEqual(reversedOn(12));
  });

  test('an invoice with one part refunded and the other lost in a dispute has gone back', async () => {
    const story = await conversion();
    const { stripe } = story;
    const second = stripeId('pi');
    await onDay(story, 1, [paymentOfInvoice(stripe, second, stripe.firstInvoice)]);
    const dispute = stripe.dispute(daysAfter(9), { charge: stripeId('ch'), payment_intent: second });
    await onDay(story, 10, [stripe.chargeRefunded({}, { at: daysAfter(10) }), dispute.lost(daysAfter(10))]);
    expect(await stateOf(story)).toEqual(reversedOn(10));
  });

  test('a second part that arrives after the first went back gives the days back', async () => {
    const story = await conversion();
    const { stripe } = story;
    await onDay(story, 10, [stripe.chargeRefunded({}, { at: daysAfter(10) })]);
    expect(await stateOf(story)).toEqual(reversedOn(10));
    await onDay(story, 11, [paymentOfInvoice(stripe, stripeId('pi'), stripe.firstInvoice)]);
    expect(await stateOf(story)).toEqual(restoredOn(11, 10));
  });

  /** A renewal on day 20, within the limit, as with a weekly plan or a change of plan. */
  async function renewed() {
    const story = await conversion();
    const { stripe } = story;
    const [invoice, payment] = [stripeId('in'), stripeId('pi')];
    await onDay(story, 20, [
      stripe.invoicePaid({ id: invoice, billing_reason: 'subscription_cycle' }, { at: daysAfter(20) }),
      paymentOfInvoice(stripe, payment, invoice),
    ]);
    return { story, payment };
  }

  test('a renewal that is refunded or lost in a dispute takes nothing', async () => {
    const { story, payment } = await renewed();
    const renewal = { id: stripeId('ch'), payment_intent: payment };
    const dispute = story.stripe.dispute(daysAfter(21), { charge: renewal.id, payment_intent: payment });
    await onDay(story, 22, [
      story.stripe.chargeRefunded(renewal, { at: daysAfter(21) }),
      dispute.opened(),
      dispute.lost(daysAfter(22)),
    ]);
    expect(await stateOf(story)).toEqual(HOLDS);
  });

  test('refunding the first payment after a renewal takes nothing until the renewal goes back as well', async () => {
    const { story, payment } = await renewed();
    await onDay(story, 25, [story.stripe.chargeRefunded({}, { at: daysAfter(25) })]);
    expect(await stateOf(story)).toEqual(HOLDS);
    const renewal = { id: stripeId('ch'), payment_intent: payment };
    await onDay(story, 30, [story.stripe.chargeRefunded(renewal, { at: daysAfter(30) })]);
    expect(await stateOf(story)).toEqual(reversedOn(30));
  });

  test('an earlier invoice that arrives later and was refunded takes nothing: the renewal holds', async () => {
    const story = await invitation();
    const { stripe } = story;
    const [invoice, payment] = [stripeId('in'), stripeId('pi')];
    await onDay(story, 0, [stripe.checkoutCompleted(), stripe.created()]);
    await onDay(story, 20, [
      stripe.invoicePaid({ id: invoice, billing_reason: 'subscription_cycle' }, { at: daysAfter(20) }),
      paymentOfInvoice(stripe, payment, invoice),
      stripe.invoicePaymentPaid(),
      stripe.chargeRefunded({}, { at: daysAfter(5) }),
    ]);
    expect(await stateOf(story)).toEqual(HOLDS);
    await onDay(story, 21, [stripe.invoicePaid()]);
    expect(await stateOf(story)).toEqual(HOLDS);
  });

  test('an earlier invoice that arrives later and was not refunded gives back what the renewal took', async () => {
    const story = await invitation();
    const { stripe } = story;
    const [invoice, payment] = [stripeId('in'), stripeId('pi')];
    await onDay(story, 0, [stripe.checkoutCompleted(), stripe.created()]);
    await onDay(story, 22, [
      stripe.invoicePaid({ id: invoice, billing_reason: 'subscription_cycle' }, { at: daysAfter(20) }),
      paymentOfInvoice(stripe, payment, invoice),
      stripe.chargeRefunded({ id: stripeId('ch'), payment_intent: payment }, { at: daysAfter(21) }),
    ]);
    expect(await stateOf(story)).toEqual(reversedOn(22));
    await onDay(story, 23, [stripe.invoicePaid(), stripe.invoicePaymentPaid()]);
    expect(await stateOf(story)).toEqual(restoredOn(23, 22));
  });

  test.each([['a, b'], ['b, a']])(
    'of two invoices paid in one second, refunding one takes nothing: %s',
    async (order) => {
      const story = await invitation();
      const { stripe } = story;
      const ids = { a: `in_a_${stripe.payment}`, b: `in_b_${stripe.payment}` };
      await onDay(story, 0, [
        stripe.checkoutCompleted(),
        stripe.created(),
        stripe.invoicePaymentPaid({ invoice: ids.a }),
        stripe.chargeRefunded({}, { at: daysAfter(1) }),
      ]);
      for (const key of order.split(', ') as (keyof typeof ids)[]) {
        await onDay(story, 1, [stripe.invoicePaid({ id: ids[key] })]);
      }
      expect((await stateOf(story)).reversedAt).toBeNull();
    },
  );

  test('one payment by any of the user’s customers is enough', async () => {
    const story = await invitation();
    const second = buyer(story.friend.id);
    await onDay(story, 0, purchase(second));
    await onDay(story, 1, [
      story.stripe.checkoutCompleted({}, { at: daysAfter(1) }),
      story.stripe.created({}, { at: daysAfter(1) }),
      story.stripe.invoicePaid({}, { at: daysAfter(1) }),
      story.stripe.invoicePaymentPaid({}, { at: daysAfter(1) }),
      story.stripe.chargeRefunded({}, { at: daysAfter(2) }),
    ]);
    expect(await stateOf(story)).toEqual(HOLDS);
    await onDay(story, 3, [second.chargeRefunded({}, { at: daysAfter(3) })]);
    expect(await stateOf(story)).toEqual(reversedOn(3));
  });

  test('a refund of something other than a subscription is kept and changes nothing', async () => {
    const story = await conversion();
    const other = { id: stripeId('ch'), payment_intent: stripeId('pi') };
    await onDay(story, 5, [story.stripe.chargeRefunded(other, { at: daysAfter(5) })]);
    expect(await stateOf(story)).toEqual(HOLDS);
  });
});

describe("reversals in Stripe's shapes before 2025-03", () => {
  /** Without `invoice_payment.paid`: the invoice or the charge names the other. */
  const old = (stripe: Buyer, fields: Record<string, unknown>) => [
    stripe.checkoutCompleted(),
    stripe.created(),
    stripe.invoicePaid({ parent: undefined, subscription: stripe.subscription, ...fields }),
  ];

  test('an invoice in the old shape names its payment intent', async () => {
    const story = await invitation();
    const { stripe } = story;
    await onDay(story, 0, old(stripe, { payment_intent: stripe.payment, charge: stripe.charge }));
    await onDay(story, 10, [stripe.chargeRefunded({}, { at: daysAfter(10) })]);
    expect(await stateOf(story)).toEqual(reversedOn(10));
  });

  test.each([
    ['refunded', (stripe: Buyer) => [stripe.chargeRefunded({}, { at: daysAfter(10) })]],
    [
      'disputed and lost',
      (stripe: Buyer) => {
        const dispute = stripe.dispute(daysAfter(5));
        return [dispute.opened(), dispute.lost(daysAfter(10))];
      },
    ],
  ])(
    'an invoice that comes again and now names a payment that was %s before reverses the conversion',
    async (_name, back) => {
      const story = await invitation();
      const { stripe } = story;
      await onDay(story, 0, old(stripe, {}));
      await onDay(story, 10, back(stripe));
      expect(await stateOf(story)).toEqual(HOLDS);
      const named = { payment_intent: stripe.payment, charge: stripe.charge };
      await onDay(story, 11, old(stripe, named).slice(-1));
      expect(await stateOf(story)).toEqual(reversedOn(11));
    },
  );

  test('a charge in the old shape names its invoice', async () => {
    const story = await invitation();
    const { stripe } = story;
    await onDay(story, 0, old(stripe, {}));
    await onDay(story, 10, [stripe.chargeRefunded({ invoice: stripe.firstInvoice }, { at: daysAfter(10) })]);
    expect(await stateOf(story)).toEqual(reversedOn(10));
  });

  test('a charge without a payment intent can be refunded or disputed', async () => {
    const none = { payment_intent: null };
    const story = await invitation();
    const { stripe } = story;
    await onDay(story, 0, old(stripe, { ...none, charge: stripe.charge }));
    await onDay(story, 10, [stripe.chargeRefunded(none, { at: daysAfter(10) })]);
    expect(await stateOf(story)).toEqual(reversedOn(10));
    await onDay(story, 11, [stripe.refundFailed(none, { at: daysAfter(11) })]);
    expect(await stateOf(story)).toEqual(restoredOn(11, 10));
    const dispute = stripe.dispute(daysAfter(12), none);
    await onDay(story, 12, [dispute.opened(), dispute.lost(daysAfter(12))]);
    expect(await stateOf(story)).toEqual(reversedOn(12));
  });
});

describe('a referrer who is gone', () => {
  test('with the referrer deleted before the conversion, only the friend loses and regains credit', async () => {
    const story = await invitation();
    const { server, friend, referrer, stripe } = story;
    await server.db.user.delete({ where: { id: referrer.id } });
    await onDay(story, 0, purchase(stripe));
    await onDay(story, 10, [stripe.chargeRefunded({}, { at: daysAfter(10) })]);
    expect(await userRow(server, friend.id)).toMatchObject({ creditUntil: daysAfter(10) });
    await onDay(story, 12, [stripe.refundFailed({}, { at: daysAfter(12) })]);
    expect(await userRow(server, friend.id)).toMatchObject({ creditUntil: daysAfter(57) });
    expect(await server.db.creditEntry.count({ where: { userId: { not: friend.id } } })).toBe(0);
  });

  test('with only a tombstone of the referrer before the conversion, only the friend loses and regains credit', async () => {
    const story = await invitation();
    await makeTombstone(story.server, story.referrer);
    await onDay(story, 0, purchase(story.stripe));
    await onDay(story, 10, [story.stripe.chargeRefunded({}, { at: daysAfter(10) })]);
    const referrer = { creditUntil: null, creditHeldAt: null };
    expect(await stateOf(story)).toEqual({ ...reversedOn(10), referrer });
    await onDay(story, 12, [story.stripe.refundFailed({}, { at: daysAfter(12) })]);
    expect(await stateOf(story)).toEqual({ ...restoredOn(12, 10), referrer });
    expect(await movesOf(story, story.referrer)).toEqual([]);
  });

  test('with the referrer deleted after the conversion, nothing is taken from or returned to the tombstone', async () => {
    const story = await conversion();
    await makeTombstone(story.server, story.referrer);
    await onDay(story, 10, [story.stripe.chargeRefunded({}, { at: daysAfter(10) })]);
    expect(await stateOf(story)).toEqual({ ...reversedOn(10), referrer: HOLDS.referrer });
    await onDay(story, 12, [story.stripe.refundFailed({}, { at: daysAfter(12) })]);
    expect(await stateOf(story)).toEqual({ ...restoredOn(12, 10), referrer: HOLDS.referrer });
    expect(await movesOf(story, story.referrer)).toEqual([['grant', 45]]);
  });
});

describe('credit that is spent', () => {
  test('partly spent credit: only the rest is taken, even from a friend who has cancelled', async () => {
    const story = await conversion();
    await onDay(story, 10, [story.stripe.ended(daysAfter(10))]);
    await onDay(story, 20, [story.stripe.chargeRefunded({}, { at: daysAfter(20) })]);
    // The friend's days were held for 10 days and ran for 10.
    expect(await movesOf(story, story.friend)).toEqual([
      ['grant', 45],
      ['reversal', 35],
    ]);
    expect(await stateOf(story)).toMatchObject({
      friend: { creditUntil: daysAfter(20), creditHeldAt: null },
      referrer: { creditUntil: daysAfter(20) },
    });
  });

  test('fully spent credit: the reversal takes nothing, and the restoration returns nothing', async () => {
    const story = await conversion();
    const dispute = story.stripe.dispute(daysAfter(5));
    await onDay(story, 70, [dispute.opened(), dispute.lost(daysAfter(70))]);
    await onDay(story, 80, [dispute.wonAfterAll(daysAfter(80))]);
    expect(await movesOf(story, story.referrer)).toEqual([
      ['grant', 45],
      ['reversal', 0],
      ['restoration', 0],
    ]);
    // A restoration of nothing, on a day long after the credit ran out, gives no day of access.
    const { app } = story.server;
    const cookie = await logInAgain(story.server, story.referrer);
    const answer = await app.inject({ url: '/api/me', headers: { cookie } });
    expect(answer.json()).toMatchObject({ creditUntil: null, creditDays: 0, access: { granted: false } });
    expect(await stateOf(story)).toMatchObject({
      friend: { creditUntil: daysAfter(125), creditHeldAt: daysAfter(80) },
      reversedAt: null,
    });
  });
});

describe('how days add up when some are taken back', () => {
  test('a buyer granted 45 on day 0 while paying and refunded on day 20 loses 45, a free referrer 25', async () => {
    const story = await conversion();
    await onDay(story, 20, [story.stripe.chargeRefunded({}, { at: daysAfter(20) })]);
    expect(await stateOf(story)).toEqual({
      friend: { creditUntil: daysAfter(20), creditHeldAt: daysAfter(20) },
      referrer: { creditUntil: daysAfter(20), creditHeldAt: null },
      convertedAt: START,
      reversedAt: daysAfter(20),
    });
    expect(await movesOf(story, story.friend)).toContainEqual(['reversal', 45]);
    expect(await movesOf(story, story.referrer)).toContainEqual(['reversal', 25]);
  });

  test('free, grants A on day 0 and B on day 5; A reversed on day 20, its dispute won on day 80: 90, then 65, then 105', async () => {
    const story = await conversion();
    const { server, referrer, stripe } = story;
    const other = await signUp(server, 'other@example.com', referrer.code);
    const creditUntil = async (): Promise<Date | null> => (await userRow(server, referrer.id)).creditUntil;

    await onDay(story, 5, purchase(buyer(other.id)));
    expect(await creditUntil()).toEqual(daysAfter(90));
    const dispute = stripe.dispute(daysAfter(6));
    await onDay(story, 20, [dispute.opened(), dispute.lost(daysAfter(20))]);
    expect(await creditUntil()).toEqual(daysAfter(65));
    await onDay(story, 80, [dispute.wonAfterAll(daysAfter(80))]);
    expect(await creditUntil()).toEqual(daysAfter(105));
    expect(await userRow(server, other.id)).toMatchObject({ creditUntil: daysAfter(50) });
  });
});

describe('a first invoice of zero that arrives late', () => {
  test('a late first invoice of zero reverses the credit, the first payment restores it, and refunding that payment reverses it again', async () => {
    const story = await invitation();
    const { stripe } = story;
    await onDay(story, 0, [stripe.checkoutCompleted(), stripe.created()]);
    expect(await stateOf(story)).toEqual(HOLDS);
    const zero = stripe.invoicePaid({ amount_paid: 0 });
    await onDay(story, 10, [zero]);
    await onDay(story, 11, [zero], 'duplicate');
    await onDay(story, 11, [stripe.invoicePaid({ amount_paid: 0 })]);
    expect(await stateOf(story)).toEqual(reversedOn(10));

    const cycle = { id: stripeId('in'), billing_reason: 'subscription_cycle' };
    await onDay(story, 31, [
      stripe.invoicePaid(cycle, { at: daysAfter(31) }),
      stripe.invoicePaymentPaid({ invoice: cycle.id }, { at: daysAfter(31) }),
    ]);
    expect(await stateOf(story)).toEqual(restoredOn(31, 10));
    await onDay(story, 40, [stripe.chargeRefunded({}, { at: daysAfter(40) })]);
    expect(await stateOf(story)).toEqual(reversedOn(40));
  });
});

describe('reversals with the stand-in for Stripe', () => {
  async function world() {
    const server = await startWorld();
    const { referrer, friend } = await invitedFriend(server);
    const subscription = await subscribe(server, friend);
    await deliverWaiting(server);
    const story = { server, referrer, friend };
    const state = () => stateOf({ ...story, stripe: buyer() });
    expect(await state()).toEqual(HOLDS);
    return { ...story, subscription, state };
  }

  test('a refund in two parts reverses with the second part, fails, and is made again', async () => {
    const { server, subscription, state } = await world();
    const payment_intent = paymentOf(server, subscription);
    await passTime(server, 10 * DAY);
    await server.merchant.refunds.create({ payment_intent, amount: 300 });
    await deliverWaiting(server);
    expect(await state()).toEqual(HOLDS);
    const second = await server.merchant.refunds.create({ payment_intent });
    await deliverWaiting(server);
    expect(await state()).toEqual(reversedOn(10));

    await passTime(server, 2 * DAY);
    server.sandbox.acts.failRefund(second.id);
    await deliverWaiting(server);
    expect(await state()).toEqual(restoredOn(12, 10));

    await passTime(server, 3 * DAY);
    await server.merchant.refunds.create({ payment_intent });
    await deliverWaiting(server);
    expect(await state()).toEqual(reversedOn(15));
  });

  test('a dispute is lost, then won', async () => {
    const { server, subscription, state } = await world();
    await passTime(server, 5 * DAY);
    const dispute = server.sandbox.acts.openDispute(paymentOf(server, subscription));
    await deliverWaiting(server);
    expect(await state()).toEqual(HOLDS);
    await passTime(server, 20 * DAY);
    server.sandbox.acts.closeDispute(dispute, 'lost');
    await deliverWaiting(server);
    expect(await state()).toEqual(reversedOn(25));
    await passTime(server, DAY);
    server.sandbox.acts.appealDispute(dispute);
    await deliverWaiting(server);
    expect(await state()).toEqual(reversedOn(25));
    server.sandbox.acts.closeDispute(dispute, 'won');
    await deliverWaiting(server);
    expect(await state()).toEqual(restoredOn(26, 25));
  });

  test('refunding a renewal takes nothing', async () => {
    const { server, subscription, state } = await world();
    await passTime(server, 31 * DAY);
    await server.merchant.refunds.create({ payment_intent: paymentOf(server, subscription, 1) });
    await deliverWaiting(server);
    expect(await state()).toEqual(HOLDS);
  });

  test('the events of a purchase and its refund, delivered backwards, end in the same rows', async () => {
    const server = await startWorld();
    const { referrer, friend } = await invitedFriend(server);
    const subscription = await subscribe(server, friend);
    await server.merchant.refunds.create({ payment_intent: paymentOf(server, subscription) });
    for (const id of server.sandbox.webhooks.waiting().reverse()) {
      expect(await server.sandbox.webhooks.send(id)).toBe(200);
    }
    expect(await stateOf({ server, referrer, friend, stripe: buyer() })).toEqual(reversedOn(0));
  });
});
