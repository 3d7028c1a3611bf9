import { describe, expect, test } from 'vitest';

import type { Subscription } from '../../src/db/generated/client.ts';
import { troubleOf } from '../../src/http/payment-trouble.ts';
import { day, subscriptionRow } from './subscription-row.ts';

const PRICES = { monthly: 'price_m', annual: 'price_a' };

const NO_CREDIT = { creditUntil: null, creditHeldAt: null };

/** What is said about one subscription on day 31, in one line. */
function said(columns: Partial<Subscription>, credit = NO_CREDIT as CreditColumns): string | null {
  const trouble = troubleOf([subscriptionRow(columns)], credit, PRICES, day(31));
  return trouble && `${trouble.what} ${trouble.then} [${trouble.remedy}]`;
}

type CreditColumns = { creditUntil: Date | null; creditHeldAt: Date | null };

describe('past due after a payment', () => {
  const pastDue = { status: 'past_due' };

  test('says when Stripe tries next, and that access lasts at least until then', () => {
    expect(said({ ...pastDue, nextAttemptAt: day(34) })).toBe(
      'Your last payment failed. Stripe will try again on 13 February 2027. You keep paid access at least until then. [card]',
    );
  });

  test.each([
    ['is not known', null],
    ['has passed', day(30)],
    ['is now', day(31)],
  ])('when the next attempt %s, no date is given', (_what, nextAttemptAt) => {
    expect(said({ ...pastDue, nextAttemptAt })).toBe(
      'Your last payment failed. You keep paid access for now, but it ends if the payment does not go through. [card]',
    );
  });

  test.each([
    ['before the next attempt', day(34), day(33), 'until 12 February 2027 at the latest.'],
    ['with the next attempt', day(34), day(34), 'until 13 February 2027 at the latest.'],
    ['after the next attempt', day(34), day(60), 'at least until then.'],
    ['and no attempt is known', null, day(60), 'until 11 March 2027 at the latest.'],
  ])('a plan that ends %s', (_what, nextAttemptAt, cancelAt, until) => {
    expect(said({ ...pastDue, nextAttemptAt, cancelAt })).toContain(`You keep paid access ${until} [card]`);
  });

  test.each([
    [day(55), '45 free days continue'],
    [day(11), 'free day continues'],
  ])('free days until %s continue if the plan ends', (creditUntil, continuing) => {
    expect(said(pastDue, { creditUntil, creditHeldAt: day(10) })).toContain(
      `If your plan ends, your ${continuing}.`,
    );
  });
});

describe('past due without a payment, as after a trial whose card failed', () => {
  const unproven = { status: 'past_due', provenAt: null };

  test('says when Stripe tries next, and that access starts only then', () => {
    expect(said({ ...unproven, nextAttemptAt: day(34) })).toBe(
      'Your first payment failed. Stripe will try again on 13 February 2027. ' +
        'Your plan starts once the payment goes through. Until then you have no paid access. [card]',
    );
  });

  test('free days give access meanwhile', () => {
    expect(said(unproven, { creditUntil: day(40), creditHeldAt: null })).toBe(
      'Your first payment failed. Your plan starts once the payment goes through. ' +
        'Your free days give you paid access until 19 February 2027. [card]',
    );
  });
});

test('unpaid: Stripe has stopped trying, whatever attempt was announced', () => {
  expect(said({ status: 'unpaid', nextAttemptAt: day(34) })).toBe(
    'Your last payment failed, and Stripe has stopped trying. Your paid access has ended. ' +
      'Your plan continues once the open invoice is paid. [card]',
  );
});

test('incomplete: the plan has not started, and it is bought on the pricing page', () => {
  expect(said({ status: 'incomplete', provenAt: null })).toBe(
    'Your first payment has not gone through. Your plan has not started, and nothing was charged. [plan]',
  );
});

describe('a plan that is over', () => {
  const over = { status: 'canceled', endReason: 'payment_failed', endedAt: day(30) };

  test.each([
    ['payment_failed', 'price_m', 'Your monthly plan ended on 9 February 2027 because its payment failed.'],
    [
      'payment_disputed',
      'price_a',
      'Your annual plan ended on 9 February 2027 because a payment was disputed.',
    ],
    ['payment_failed', 'price_old', 'Your plan ended on 9 February 2027 because its payment failed.'],
  ])('%s of %s says why and when it ended', (endReason, priceId, what) => {
    expect(said({ ...over, endReason, priceId })).toBe(
      `${what} You have no paid access now. Any backups you made are still there. [plan]`,
    );
  });

  test('says that free days give access now', () => {
    expect(said(over, { creditUntil: day(75), creditHeldAt: null })).toContain(
      'Your free days give you paid access until 26 March 2027. [plan]',
    );
  });

  test('without `endedAt` is dated by its last change of status; without both, nothing is said', () => {
    expect(said({ ...over, endedAt: null, statusAt: day(29) })).toContain('ended on 8 February 2027');
    expect(said({ ...over, endedAt: null, statusAt: null })).toBeNull();
  });

  test('is shown for 30 days', () => {
    const second = new Date(day(1).getTime() - 1000);
    expect(said({ ...over, endedAt: day(1) })).toContain('ended on 11 January 2027');
    expect(said({ ...over, endedAt: second })).toBeNull();
  });

  test.each(['cancellation_requested', 'an unknown reason', null])(
    'shows nothing if it ended for the reason %s',
    (endReason) => {
      expect(said({ ...over, endReason })).toBeNull();
    },
  );

  test.each(['active', 'trialing', 'past_due'])(
    'is no longer shown once there is a new plan: %s',
    (status) => {
      const rows = [subscriptionRow(over), subscriptionRow({ id: 'sub_2', status, createdAt: day(31) })];
      const what = troubleOf(rows, NO_CREDIT, PRICES, day(31))?.what;
      expect(what).toBe(status === 'past_due' ? 'Your last payment failed.' : undefined);
    },
  );
});

test('a paused plan is said to be paused, whatever paused it', () => {
  expect(said({ status: 'paused' })).toBe(
    'Your plan is paused. You have no paid access now. Check that a valid card is on file, then contact us. [card]',
  );
});

test.each(['active', 'trialing', 'incomplete_expired', 'an unknown status', null])(
  'status %s is no trouble',
  (status) => {
    expect(said({ status, nextAttemptAt: day(34) })).toBeNull();
  },
);

test.each<[string, Partial<Subscription>]>([
  ['that does not count', { counts: false }],
  ['that Stripe does not know', { missingAt: day(30) }],
])('a subscription %s is no trouble', (_what, columns) => {
  expect(said({ status: 'past_due', ...columns })).toBeNull();
});

test('without a subscription there is no notice', () => {
  expect(troubleOf([], NO_CREDIT, PRICES, day(31))).toBeNull();
});
