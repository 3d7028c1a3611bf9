import { describe, expect, test } from 'vitest';

import { creditLeft } from '../src/credits/balance.ts';
import type { Spending } from '../src/credits/fold.ts';
import type { Tx } from '../src/db/transaction.ts';
import { explain } from '../src/operator/explain.ts';
import type { AccountStory, ExplainedEntry } from '../src/operator/explain.ts';
import { grantCredit } from '../src/operator/grant-credit.ts';
import { commandContext } from './support/command-context.ts';
import { creditStory } from './support/credit-story.ts';
import {
  DAY,
  daysAfter,
  deliverAll,
  makeTombstone,
  signUp,
  START,
  startTestServer,
  userRow,
} from './support/server.ts';
import type { Person, TestServer } from './support/server.ts';
import { buyer, epoch, stripeId } from './support/stripe-events.ts';
import type { Buyer } from './support/stripe-events.ts';

/** Explains a user at the clock's instant, and checks that the sum adds up to the second. */
async function explained(server: TestServer, person: Person): Promise<{ story: AccountStory; text: string }> {
  const { text, json } = await explain(commandContext(server), person.email);
  const story = json as AccountStory;
  const { granted, spent, takenBack, left } = story.credit.sum;
  expect(granted).toBe(spent + takenBack + left);
  expect(left).toBe(creditLeft(await userRow(server, person.id), server.clock.now));
  expect(story.now.credit.left).toBe(left);
  return { story, text };
}

/** The lines of a history in short: the kind, and the days if there are any. */
function short(history: readonly (ExplainedEntry | Spending)[]): string[] {
  return history.map((line) => {
    if ('of' in line)
      return `spent ${line.of.map(({ seq, seconds }) => `${seconds / DAY} of #${seq}`).join(' + ')}`;
    return line.seconds === 0 ? line.kind : `${line.kind} ${line.seconds / DAY}`;
  });
}

function days({ granted, spent, takenBack, left }: AccountStory['credit']['sum']): number[] {
  return [granted, spent, takenBack, left].map((seconds) => seconds / DAY);
}

/** One account's story, explained on the days that matter. */
async function story() {
  const account = await creditStory();
  const { server, person } = account;
  const explainedAt = async (day: number) => {
    server.clock.now = daysAfter(day);
    return explained(server, person);
  };
  return { ...account, explainedAt };
}

/** A buyer's first invoice is paid, and Stripe says by which payment. */
function paid(stripe: Buyer, at = START): object[] {
  return [stripe.invoicePaid({}, { at }), stripe.invoicePaymentPaid({}, { at })];
}

/** A referrer and their friends, each with a Stripe customer. */
async function inviter(...emails: string[]) {
  const server = await startTestServer();
  const referrer = await signUp(server, 'referrer@example.com');
  const friends = [];
  for (const email of emails) {
    const friend = await signUp(server, email, referrer.code);
    const stripe = buyer(friend.id);
    await deliverAll(server, [stripe.checkoutCompleted()]);
    friends.push({ friend, stripe });
  }
  return { server, referrer, friends };
}

/** The only friend of a referrer. */
async function oneFriend() {
  const { server, referrer, friends } = await inviter('friend@example.com');
  const [only] = friends;
  if (!only) throw new Error('no friend');
  return { server, referrer, ...only };
}

describe('how days add up, to the second', () => {
  test('pays from 0, grant at 10, cancels at 40, all spent at 85', async () => {
    const { pays, granted, ends, explainedAt } = await story();
    await pays(0);
    await granted(10);
    await ends(40);
    const running = await explainedAt(60);
    expect(short(running.story.credit.history)).toEqual(['hold', 'grant 45', 'resume', 'spent 20 of #2']);
    expect(days(running.story.credit.sum)).toEqual([45, 20, 0, 25]);
    const over = await explainedAt(100);
    expect(days(over.story.credit.sum)).toEqual([45, 45, 0, 0]);
    expect(over.story.credit.history.at(-1)).toMatchObject({ from: daysAfter(40), until: daysAfter(85) });
  });

  test('pays from day 0, grants on days 10 and 70, ends on day 100; the oldest grant is spent first', async () => {
    const { pays, granted, ends, explainedAt } = await story();
    await pays(0);
    await granted(10);
    await granted(70);
    await ends(100);
    const { story: account } = await explainedAt(160);
    expect(short(account.credit.history)).toEqual([
      'hold',
      'grant 45',
      'grant 45',
      'resume',
      'spent 45 of #2 + 15 of #3',
    ]);
    expect(days(account.credit.sum)).toEqual([90, 60, 0, 30]);
  });

  test('pays again from day 60 to 200 after cancelling on day 40', async () => {
    const { pays, granted, ends, explainedAt } = await story();
    await pays(0);
    await granted(10);
    await ends(40);
    await pays(60);
    expect(days((await explainedAt(100)).story.credit.sum)).toEqual([45, 20, 0, 25]);
    await ends(200);
    const { story: account } = await explainedAt(210);
    expect(short(account.credit.history)).toEqual([
      'hold',
      'grant 45',
      'resume',
      'spent 20 of #2',
      'hold',
      'resume',
      'spent 10 of #2',
    ]);
    expect(days(account.credit.sum)).toEqual([45, 30, 0, 15]);
  });

  test('credit until day 30, pays from day 20 to 50', async () => {
    const { pays, granted, ends, explainedAt } = await story();
    await granted(0, 30);
    await pays(20);
    await ends(50);
    const { story: account } = await explainedAt(55);
    expect(short(account.credit.history)).toEqual([
      'grant 30',
      'spent 20 of #1',
      'hold',
      'resume',
      'spent 5 of #1',
    ]);
    expect(days(account.credit.sum)).toEqual([30, 25, 0, 5]);
  });

  test('the buyer, granted 45 days on day 0 while paying and refunded on day 20, loses 45, the referrer 25', async () => {
    const { server, referrer, friend, stripe } = await oneFriend();
    await deliverAll(server, [stripe.created(), ...paid(stripe)]);
    server.clock.now = daysAfter(20);
    await deliverAll(server, [stripe.chargeRefunded({}, { at: daysAfter(20) })]);

    const buyers = await explained(server, friend);
    expect(short(buyers.story.credit.history)).toEqual(['hold', 'grant 45', 'reversal 45']);
    expect(days(buyers.story.credit.sum)).toEqual([45, 0, 45, 0]);
    const referrers = await explained(server, referrer);
    expect(short(referrers.story.credit.history)).toEqual(['grant 45', 'spent 20 of #1', 'reversal 25']);
    expect(days(referrers.story.credit.sum)).toEqual([45, 20, 25, 0]);
    expect(referrers.text).toContain(
      '25 days taken back because the payment of friend@example.com was refunded',
    );
    expect(buyers.text).toContain('45 days taken back because their payment was refunded');
  });

  test('grants A on day 0 and B on day 5, A lost in a dispute on day 20 and won on day 80; B is whole throughout', async () => {
    const { server, referrer, friends } = await inviter('a@example.com', 'b@example.com');
    const [a, b] = friends;
    if (!a || !b) throw new Error('no friends');
    await deliverAll(server, [a.stripe.created(), ...paid(a.stripe)]);
    server.clock.now = daysAfter(5);
    await deliverAll(server, [b.stripe.created({}, { at: daysAfter(5) }), ...paid(b.stripe, daysAfter(5))]);
    const dispute = a.stripe.dispute(daysAfter(10));
    server.clock.now = daysAfter(20);
    await deliverAll(server, [dispute.lost(daysAfter(20))]);
    expect(days((await explained(server, referrer)).story.credit.sum)).toEqual([90, 20, 25, 45]);
    server.clock.now = daysAfter(80);
    await deliverAll(server, [dispute.wonAfterAll(daysAfter(80))]);

    server.clock.now = daysAfter(90);
    const { story: account, text } = await explained(server, referrer);
    expect(short(account.credit.history)).toEqual([
      'grant 45',
      'spent 5 of #1',
      'grant 45',
      'spent 15 of #1',
      'reversal 25',
      'spent 45 of #2',
      'restoration 25',
      'spent 10 of #4',
    ]);
    expect(days(account.credit.sum)).toEqual([90, 75, 0, 15]);
    expect(text).toContain(
      '25 days taken back because the dispute about the payment of a@example.com was lost',
    );
    expect(text).toContain('25 days returned because the dispute about the payment of a@example.com was won');
  });
});

test('explain prints one line for each entry, and sums that add up to the second', async () => {
  const { server, person, granted, pays, ends } = await story();
  await granted(0, 30, 'sorry for the "outage"');
  await granted(1, 2);
  await pays(20);
  await ends(50);
  server.clock.now = new Date(daysAfter(61).getTime() + 3_725_000);
  const { text } = await explained(server, person);
  expect(text.split('\n')).toEqual([
    'person@example.com at 2027-03-12T10:02:05Z',
    '',
    'Now',
    '  tier    free',
    '  access  credit, until 2027-03-13T09:00:00Z',
    '  credit  0 days 22:57:55 left, running until 2027-03-13T09:00:00Z',
    '',
    'Credit',
    '  2027-01-10T09:00:00Z  #1   granted 30 days by an operator "sorry for the "outage""',
    '  2027-01-10T09:00:00Z  ...  1 day of #1 spent until 2027-01-11T09:00:00Z',
    '  2027-01-11T09:00:00Z  #2   granted 2 days by an operator',
    '  2027-01-11T09:00:00Z  ...  19 days of #1 spent until 2027-01-30T09:00:00Z',
    '  2027-01-30T09:00:00Z  #3   held because they pay',
    '  2027-03-01T09:00:00Z  #4   runs again because they stopped paying',
    '  2027-03-01T09:00:00Z  ...  11 days 01:02:05 spent until 2027-03-12T10:02:05Z: 10 days of #1, 1 day 01:02:05 of #2',
    '  32 days granted = 31 days 01:02:05 spent + 0 days taken back + 0 days 22:57:55 left',
    '',
    'Friends they invited',
    '  none',
    '',
    'Who invited them',
    '  nobody',
  ]);
});

test('explain says when credit is held, and when somebody never had any', async () => {
  const { server, referrer, friend, stripe } = await oneFriend();
  expect((await explained(server, referrer)).text).toContain('Credit\n  none so far\n');
  await deliverAll(server, [stripe.created()]);
  server.clock.now = daysAfter(3);
  const { story: account, text } = await explained(server, friend);
  expect(account.now).toMatchObject({
    tier: 'paid',
    credit: { left: 45 * DAY, held: true, until: daysAfter(48) },
  });
  expect(text).toContain('45 days left, held while they pay');
  expect(text).toContain(
    'granted 45 days because they paid for the first time, invited by referrer@example.com',
  );
});

describe('why a referral has or has not converted, and what comes next', () => {
  /** The referral as explained to the referrer, after some events. */
  async function explainedReferral(events: (friend: Awaited<ReturnType<typeof oneFriend>>) => object[]) {
    const all = await oneFriend();
    await deliverAll(all.server, events(all));
    const { story: of } = await explained(all.server, all.referrer);
    const { story: ofFriend } = await explained(all.server, all.friend);
    const [referral] = of.invited;
    expect(referral?.email).toBe('friend@example.com');
    expect(ofFriend.invitedBy).toEqual({ ...referral, email: 'referrer@example.com' });
    return referral;
  }
  const firstInvoice = 'It converts with the first paid invoice.';
  const trialEnd = { trial_end: epoch(daysAfter(7)) };

  test('signed up without a subscription', async () => {
    expect(await explainedReferral(() => [])).toMatchObject({
      state: 'signed-up',
      says: 'no subscription yet',
      next: expect.stringContaining('first payment is proven') as string,
      convertedAt: null,
    });
  });

  test('on trial', async () => {
    const referral = await explainedReferral(({ stripe }) => [
      stripe.created({ status: 'trialing', ...trialEnd }),
    ]);
    expect(referral).toMatchObject({
      state: 'trial',
      says: 'on trial until 2027-01-17T09:00:00Z, no payment yet',
      next: firstInvoice,
    });
  });

  test.each([
    [
      'a coupon',
      'it had a trial, a discount or a price of zero, or its invoices are emailed instead of charged',
      (stripe: Buyer) => [stripe.created({ discounts: ['di_1'] })],
    ],
    [
      'a first invoice of zero',
      'its first invoice was zero',
      (stripe: Buyer) => [stripe.created({ discounts: ['di_1'] }), stripe.invoicePaid({ amount_paid: 0 })],
    ],
    [
      'a bank debit under way',
      'a bank debit is pending',
      (stripe: Buyer) => [stripe.checkoutCompleted({ payment_status: 'unpaid' }), stripe.created()],
    ],
  ])('paying, but no payment is proven: %s', async (_name, why, events) => {
    expect(await explainedReferral(({ stripe }) => events(stripe))).toMatchObject({
      state: 'unproven',
      says: `active, but no payment is proven (${why})`,
      next: firstInvoice,
    });
  });

  test.each([
    ['incomplete', 'payment-failed', 'the first payment has not gone through', firstInvoice],
    [
      'incomplete_expired',
      'payment-failed',
      'the first payment did not go through and the subscription expired',
      null,
    ],
    ['past_due', 'past-due', 'the subscription is past due, and nothing has been paid yet', firstInvoice],
    [
      'unpaid',
      'stopped',
      'the subscription has the status unpaid, and nothing has been paid yet',
      firstInvoice,
    ],
    ['canceled', 'ended', 'the subscription ended without a payment', null],
  ])('%s without a payment', async (status, state, says, next) => {
    expect(await explainedReferral(({ stripe }) => [stripe.created({ status })])).toMatchObject({
      state,
      says,
      next: next ?? 'It converts with the first paid invoice of a new subscription.',
    });
  });

  test('of two subscriptions the one that is nearest to a payment decides', async () => {
    const referral = await explainedReferral(({ stripe }) => [
      stripe.created({ id: stripeId('sub'), status: 'canceled' }),
      stripe.created({ status: 'trialing', ...trialEnd }),
    ]);
    expect(referral?.state).toBe('trial');
  });

  test('converted, and until when it can be reversed', async () => {
    const referral = await explainedReferral(({ stripe }) => [stripe.created(), ...paid(stripe)]);
    expect(referral).toMatchObject({
      state: 'converted',
      says: 'converted on 2027-01-10T09:00:00Z: 45 days each',
      next: 'A full refund by 2027-02-09T09:00:00Z, or the loss of a dispute opened by then, can take the days back.',
      convertedAt: daysAfter(0),
      reversedAt: null,
    });
  });

  test('converted, and what a refund of the first payment does while a later one stands', async () => {
    const referral = await explainedReferral(({ stripe }) => [
      stripe.created(),
      ...paid(stripe),
      stripe.invoicePaid(
        { id: stripeId('in'), billing_reason: 'subscription_cycle' },
        { at: daysAfter(0.5) },
      ),
    ]);
    expect(referral?.next).toBe(
      'A full refund by 2027-02-09T09:00:00Z, or the loss of a dispute opened by then, can take the days back, but only if their later payments go back as well.',
    );
  });

  test('reversed by a refund, restored when the refund fails', async () => {
    const all = await oneFriend();
    const { server, referrer, stripe } = all;
    await deliverAll(server, [stripe.created(), ...paid(stripe)]);
    server.clock.now = daysAfter(20);
    await deliverAll(server, [stripe.chargeRefunded({}, { at: daysAfter(20) })]);
    const reversed = (await explained(server, referrer)).story.invited;
    expect(reversed).toMatchObject([
      {
        state: 'reversed',
        says: 'converted on 2027-01-10T09:00:00Z: 45 days each; taken back on 2027-01-30T09:00:00Z because the payment was refunded',
        next: 'The days are returned if the refund fails or they pay again.',
      },
    ]);
    server.clock.now = daysAfter(50);
    await deliverAll(server, [stripe.refundFailed({}, { at: daysAfter(50) })]);
    const { story: restored, text } = await explained(server, referrer);
    expect(text).toContain('taken back because the payment of friend@example.com was refunded');
    expect(restored.invited).toMatchObject([
      {
        state: 'converted',
        next: 'Only the loss of a dispute opened by 2027-02-09T09:00:00Z, or a full refund made by then that Stripe has not reported yet, can still take the days back.',
      },
    ]);
    expect(text).toContain('25 days returned because the refund of the payment of friend@example.com failed');
  });

  test('reversed by a lost dispute', async () => {
    const referral = await explainedReferral(({ stripe }) => [
      stripe.created(),
      ...paid(stripe),
      stripe.dispute(START).lost(START),
    ]);
    expect(referral?.says).toMatch(/; taken back on .* because the dispute was lost$/);
  });

  test.each([
    ['0', 'REFERRAL_CLAWBACK_DAYS is 0, so later refunds and disputes take nothing back.'],
    [
      '7',
      'A full refund of their first payment within 7 days, or the loss of a dispute opened by then, can take the days back.',
    ],
  ])('converted, with REFERRAL_CLAWBACK_DAYS=%s, before an invoice is known', async (days, next) => {
    const { server, referrer, stripe } = await oneFriend();
    await deliverAll(server, [stripe.created()]);
    const context = commandContext(server, { REFERRAL_CLAWBACK_DAYS: days });
    expect((await explain(context, referrer.email)).json).toMatchObject({ invited: [{ next }] });
  });

  test('reversed because a first invoice of zero arrived late', async () => {
    const all = await oneFriend();
    await deliverAll(all.server, [all.stripe.created(), all.stripe.invoicePaid({ amount_paid: 0 })]);
    const { story: of, text } = await explained(all.server, all.referrer);
    expect(of.invited).toMatchObject([
      {
        says: expect.stringMatching(/because no payment was ever collected$/) as string,
        next: 'The days are returned with the first paid invoice.',
      },
    ]);
    expect(text).toContain(
      '45 days taken back because the payment of friend@example.com was never collected',
    );
  });

  test('converted and reversed at once, when a checkout links a purchase refunded long ago', async () => {
    const server = await startTestServer();
    const referrer = await signUp(server, 'referrer@example.com');
    const friend = await signUp(server, 'friend@example.com', referrer.code);
    const stripe = buyer(friend.id);
    await deliverAll(server, [
      stripe.created(),
      ...paid(stripe),
      stripe.chargeRefunded(),
      stripe.checkoutCompleted(),
    ]);
    const { text } = await explained(server, referrer);
    expect(text).toContain('45 days taken back because the payment of friend@example.com was refunded');
  });

  test('a friend whose account was deleted never converts', async () => {
    const { server, referrer, friend } = await oneFriend();
    await makeTombstone(server, friend);
    const { story: of, text } = await explained(server, referrer);
    expect(of.invited).toMatchObject([{ email: null, state: 'deleted', next: 'It never converts.' }]);
    expect(text).toContain(
      '(deleted account), signed up on 2027-01-10T09:00:00Z: the account was deleted before a payment.',
    );
  });

  test('a friend with an address of the referrer, or one that converted before, is not promised a conversion', async () => {
    const { server, referrer, friend, stripe } = await oneFriend();
    const { emailHash } = await userRow(server, friend.id);
    const next = /^The first payment will not convert it: an address of theirs belongs to the referrer or/;
    const stories = async () => {
      const { invited } = (await explained(server, referrer)).story;
      return [
        invited.find(({ email }) => email === friend.email),
        (await explained(server, friend)).story.invitedBy,
      ];
    };
    await server.db.formerAddress.create({ data: { userId: referrer.id, emailHash } });
    for (const told of await stories()) {
      expect(told?.state).toBe('signed-up');
      expect(told?.next).toMatch(next);
    }
    await server.db.formerAddress.deleteMany();
    const other = await signUp(server, 'other@example.com', referrer.code);
    await server.db.formerAddress.create({ data: { userId: other.id, emailHash } });
    for (const told of await stories()) expect(told?.next).not.toMatch(next);
    const others = buyer(other.id);
    await deliverAll(server, [others.checkoutCompleted(), others.created(), ...paid(others)]);
    for (const told of await stories()) expect(told?.next).toMatch(next);
    await deliverAll(server, [stripe.created(), ...paid(stripe)]);
    for (const told of await stories()) expect(told?.state).toBe('refused');
  });

  test('a friend whose referrer is gone still gets their days', async () => {
    const { server, referrer, friend, stripe } = await oneFriend();
    await makeTombstone(server, referrer);
    const before = (await explained(server, friend)).story.invitedBy;
    expect(before?.email).toBeNull();
    expect(before?.next).toMatch(/The referrer has deleted their account and gets nothing\.$/);
    await deliverAll(server, [stripe.created()]);
    const after = (await explained(server, friend)).story.invitedBy;
    expect(after?.says).toMatch(/: 45 days for the invited user; the referrer had deleted their account$/);
  });
});

test('an address without an account, or of a deleted one, is refused', async () => {
  const { server, person } = await story();
  await expect(explain(commandContext(server), 'nobody@example.com')).rejects.toThrow(
    'No account has the address nobody@example.com.',
  );
  await makeTombstone(server, person);
  await expect(explain(commandContext(server), person.email)).rejects.toThrow('No account has the address');
});

test('explain reads one moment: a grant made meanwhile is in the whole story or in none of it', async () => {
  const server = await startTestServer();
  const person = await signUp(server, 'person@example.com');
  let granted = false;
  // After the account is read and before its ledger is.
  const hooked = (tx: Tx): Tx =>
    Object.create(tx, {
      user: {
        value: Object.create(tx.user, {
          findUniqueOrThrow: {
            value: async (args: Parameters<Tx['user']['findUniqueOrThrow']>[0]) => {
              const row = await tx.user.findUniqueOrThrow(args);
              if (!granted) {
                granted = true;
                await grantCredit(commandContext(server), person.email, 30, 'sorry');
              }
              return row;
            },
          },
        }) as Tx['user'],
      },
    }) as Tx;
  const db = {
    user: server.db.user,
    $transaction: (work: (tx: Tx) => Promise<unknown>, options: object) =>
      server.db.$transaction((tx) => work(hooked(tx as Tx)), options),
  } as unknown as TestServer['db'];
  const context = { ...commandContext(server), db };
  const before = (await explain(context, person.email)).json as AccountStory;
  expect(granted).toBe(true);
  expect(before.credit.sum.granted).toBe(0);
  expect(before.now.credit.left).toBe(0);
  const after = (await explain(context, person.email)).json as AccountStory;
  expect(after.now.credit.left).toBe(30 * DAY);
  expect(after.credit.sum.granted).toBe(30 * DAY);
});
