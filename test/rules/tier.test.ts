import { describe, expect, test } from 'vitest';

import { deriveTier, tierOf } from '../../src/access/tier.ts';
import { day, subscriptionRow } from './subscription-row.ts';

describe('the tier that one subscription gives (design: rule 6)', () => {
  test.each([
    { status: 'active', gives: 'paid' },
    { status: 'trialing', gives: 'trial' },
    { status: 'past_due', gives: 'paid' },
    { status: 'unpaid', gives: 'free' },
    { status: 'canceled', gives: 'free' },
    { status: 'incomplete', gives: 'free' },
    { status: 'incomplete_expired', gives: 'free' },
    { status: 'paused', gives: 'free' },
    { status: 'an unknown status', gives: 'free' },
    { status: null, gives: 'free' },
  ])('a subscription with status $status gives $gives', ({ status, gives }) => {
    expect(tierOf(subscriptionRow({ status }))).toBe(gives);
  });

  test('past due without a payment, as after a trial whose card failed, is free', () => {
    expect(tierOf(subscriptionRow({ status: 'past_due', provenAt: null }))).toBe('free');
  });

  test('an active subscription is paid without proof of payment', () => {
    expect(tierOf(subscriptionRow({ provenAt: null }))).toBe('paid');
  });

  test.each(['active', 'trialing', 'past_due'])(
    'a subscription to another product gives nothing when it is %s',
    (status) => {
      expect(tierOf(subscriptionRow({ status, counts: false }))).toBe('free');
    },
  );

  test('a second trial of an address gives nothing, and its first payment does', () => {
    expect(tierOf(subscriptionRow({ status: 'trialing', trialRefused: true }))).toBe('free');
    expect(tierOf(subscriptionRow({ status: 'active', trialRefused: true }))).toBe('paid');
  });
});

test.each([
  { statuses: [], tier: 'free' },
  { statuses: ['canceled', 'trialing'], tier: 'trial' },
  { statuses: ['trialing', 'active', 'canceled'], tier: 'paid' },
  { statuses: ['active', 'trialing'], tier: 'paid' },
  { statuses: ['unpaid', 'incomplete'], tier: 'free' },
])('the best subscription decides: $statuses gives $tier', ({ statuses, tier }) => {
  expect(deriveTier(statuses.map((status) => subscriptionRow({ status, provenAt: day(0) })))).toBe(tier);
});
