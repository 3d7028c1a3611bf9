import { describe, expect, test } from 'vitest';

import { grantPaid, revokePaid } from '../../src/access/grant-paid.ts';
import type { ReferralRow, Rows, UserRow } from '../../src/db/rows.ts';
import { convertReferral } from '../../src/referrals/convert.ts';
import { reviewReferral } from '../../src/referrals/review.ts';
import { FRIEND, invitation, REFERRER, unitOf } from './invitation.ts';
import { day } from './subscription-row.ts';

const CAUSE = { id: 'evt_1', actor: 'stripe' } as const;

function userOf(rows: Rows, id: string): UserRow {
  const user = rows.users.get(id);
  if (!user) throw new Error('no such user');
  return user;
}

function put(rows: Rows, columns: Partial<ReferralRow>): void {
  const referral = rows.referrals.get(FRIEND);
  if (referral) rows.referrals.set(FRIEND, { ...referral, ...columns });
}

function convert(rows: Rows, at = day(0)) {
  return convertReferral(unitOf(rows, at), userOf(rows, FRIEND));
}

/** Until when each of the two has credit, and the length of their ledgers. */
function creditOf(rows: Rows) {
  return [FRIEND, REFERRER].map((id) => {
    const { creditUntil, creditEntryCount } = userOf(rows, id);
    return [creditUntil, creditEntryCount];
  });
}

const BOTH = [
  [day(45), 1],
  [day(45), 1],
];
const NOBODY = [
  [null, 0],
  [null, 0],
];

describe('convertReferral (design: rule 2)', () => {
  test('convertReferral stamps the referral and grants 45 days to both, with an audit row each', () => {
    const rows = invitation();
    expect(convert(rows)).toMatchObject({ convertedAt: day(0), creditedAt: day(0), referredHash: FRIEND });
    expect(creditOf(rows)).toEqual(BOTH);
    expect(rows.audit.map(({ userId, kind, seconds, causeId }) => [userId, kind, seconds, causeId])).toEqual([
      [FRIEND, 'credit', 45 * 86_400, 'referral'],
      [REFERRER, 'credit', 45 * 86_400, 'referral'],
    ]);
  });

  test('convertReferral returns a stamped referral unchanged', () => {
    const rows = invitation();
    const first = convert(rows);
    expect(convert(rows, day(3))).toBe(first);
    expect(creditOf(rows)).toEqual(BOTH);
  });

  test('without a referral is null, and changes nothing', () => {
    const rows = invitation();
    rows.referrals.clear();
    expect(convert(rows)).toBeNull();
    expect(creditOf(rows)).toEqual(NOBODY);
  });

  test.each([
    {
      referrer: 'is only a tombstone',
      change: (rows: Rows) => rows.users.set(REFERRER, { ...userOf(rows, REFERRER), deletedAt: day(0) }),
    },
    {
      referrer: 'is missing',
      change: (rows: Rows) => {
        put(rows, { referrerId: null });
      },
    },
  ])('the buyer is credited when the referrer $referrer', ({ change }) => {
    const rows = invitation();
    change(rows);
    expect(convert(rows)?.convertedAt).toEqual(day(0));
    expect(creditOf(rows)).toEqual([BOTH[0], NOBODY[1]]);
  });

  test.each([
    { why: 'own-address', columns: { ownAddress: true } },
    { why: 'address-converted', columns: { addressConverted: true } },
  ])('the conversion is refused for good: $why', ({ why, columns }) => {
    const rows = invitation();
    put(rows, columns);
    expect(convert(rows)).toMatchObject({ refusedFor: why, convertedAt: null });
    expect(creditOf(rows)).toEqual(NOBODY);
    put(rows, { ownAddress: false, addressConverted: false });
    expect(convert(rows)).toMatchObject({ refusedFor: why, convertedAt: null });
  });

  test('the conversion is refused when another account of the address converts in the same unit of work', () => {
    const rows = invitation();
    const [open] = rows.referrals.values();
    if (!open) throw new Error('There is no referral.');
    rows.referrals.set('other', {
      ...open,
      id: 'another',
      referredId: 'other',
      referredHash: FRIEND,
      convertedAt: day(0),
    });
    expect(convert(rows)).toMatchObject({ refusedFor: 'address-converted' });
    expect(creditOf(rows)).toEqual(NOBODY);
  });

  test('never happens for a deleted account', () => {
    const rows = invitation();
    rows.users.set(FRIEND, { ...userOf(rows, FRIEND), deletedAt: day(0) });
    expect(convert(rows)).toMatchObject({ convertedAt: null, refusedFor: null });
  });
});

describe('reversal and restoration (design: rule 9)', () => {
  const review = (rows: Rows, at: Date, holds: boolean) =>
    reviewReferral(
      unitOf(rows, at),
      userOf(rows, FRIEND),
      { proven: true, lost: holds ? null : 'refund' },
      CAUSE,
    );

  test('a reversal takes what is unspent from both, and the restoration returns exactly that', () => {
    const rows = invitation();
    convert(rows);
    expect(review(rows, day(20), false)).toMatchObject({ convertedAt: day(0), reversedAt: day(20) });
    expect(creditOf(rows)).toEqual([
      [day(20), 2],
      [day(20), 2],
    ]);
    expect(review(rows, day(80), true)).toMatchObject({ convertedAt: day(0), reversedAt: null });
    expect(creditOf(rows)).toEqual([
      [day(105), 3],
      [day(105), 3],
    ]);
  });

  test('a reversal and a restoration each happen once, however often the facts are checked', () => {
    const rows = invitation();
    convert(rows);
    for (const holds of [true, false, false, true, true]) review(rows, day(10), holds);
    expect(rows.entries.filter(({ userId }) => userId === FRIEND).map(({ kind }) => kind)).toEqual([
      'grant',
      'reversal',
      'restoration',
    ]);
  });

  test('a conversion whose money had already gone back is reversed at once', () => {
    const rows = invitation();
    expect(review(rows, day(5), false)).toMatchObject({ convertedAt: day(5), reversedAt: day(5) });
    expect(creditOf(rows)).toEqual([
      [day(5), 2],
      [day(5), 2],
    ]);
  });
});

describe('grantPaid and revokePaid (design: rules 3 and 8)', () => {
  test('credit is held while the user pays, from the instants that Stripe gives', () => {
    const rows = invitation();
    convert(rows);
    grantPaid(unitOf(rows, day(12)), userOf(rows, FRIEND), { ...CAUSE, at: day(10) });
    expect(userOf(rows, FRIEND)).toMatchObject({ tier: 'paid', creditHeldAt: day(10) });
    revokePaid(unitOf(rows, day(42)), userOf(rows, FRIEND), { ...CAUSE, at: day(40) });
    expect(userOf(rows, FRIEND)).toMatchObject({ tier: 'free', creditHeldAt: null, creditUntil: day(75) });
    expect(
      rows.audit.filter(({ kind }) => kind === 'tier').map(({ fromTier, toTier }) => [fromTier, toTier]),
    ).toEqual([
      ['free', 'paid'],
      ['paid', 'free'],
    ]);
  });

  test('change nothing when a paid user is made paid, or a free one free', () => {
    const rows = invitation();
    grantPaid(unitOf(rows, day(0)), userOf(rows, FRIEND), { ...CAUSE, at: day(0) });
    const paid = userOf(rows, FRIEND);
    expect(grantPaid(unitOf(rows, day(30)), paid, { ...CAUSE, at: day(30) })).toBe(paid);
    const free = userOf(rows, REFERRER);
    expect(revokePaid(unitOf(rows, day(30)), free, { ...CAUSE, at: day(30) })).toBe(free);
    expect(rows.entries).toHaveLength(1);
  });

  test('an instant before the last ledger entry, or after now, is clamped', () => {
    const rows = invitation();
    convert(rows, day(5));
    grantPaid(unitOf(rows, day(6)), userOf(rows, FRIEND), { ...CAUSE, at: day(1) });
    revokePaid(unitOf(rows, day(7)), userOf(rows, FRIEND), { ...CAUSE, at: day(90) });
    expect(rows.entries.filter(({ userId }) => userId === FRIEND).map(({ at }) => at)).toEqual([
      day(5),
      day(5),
      day(7),
    ]);
  });
});

test('a conversion that waited for the deletion of the referrer is not dated before it', () => {
  const rows = invitation();
  rows.users.set(REFERRER, { ...userOf(rows, REFERRER), deletedAt: day(1) });
  // The credit is granted at the transaction's time. The conversion is dated after the deletion, so that `doctor` expects
  // no grant to the referrer.
  expect(convert(rows, day(0))).toMatchObject({ convertedAt: day(1), creditedAt: day(0) });
});
