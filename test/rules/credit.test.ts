import { describe, expect, test } from 'vitest';

import { creditLeft, granted, held, resumed, taken } from '../../src/credits/balance.ts';
import type { CreditBalance } from '../../src/credits/balance.ts';
import { checkLedger, foldLedger, NO_CREDIT, unspentOfReferral } from '../../src/credits/fold.ts';
import { stackCredit } from '../../src/credits/stack.ts';
import type { CreditEntry } from '../../src/db/generated/client.ts';
import { day } from './subscription-row.ts';

const DAY = 86_400;

/** What moves credit, as in the stories of docs/how-it-works.md: on which day, and how many days. */
type Move =
  | { at: number; kind: 'hold' | 'resume' }
  | { at: number; kind: 'grant' | 'reversal' | 'restoration'; days: number; of?: string };

function ledger(moves: readonly Move[]): CreditEntry[] {
  return moves.map((move, index) => ({
    userId: 'user',
    seq: index + 1,
    at: day(move.at),
    kind: move.kind,
    seconds: 'days' in move ? move.days * DAY : 0,
    referralId: 'of' in move ? (move.of ?? null) : null,
    causeId: `cause ${index}`,
  }));
}

describe('stacking (design: rule 4)', () => {
  test.each([
    { left: 'never existed', until: null, ends: day(55) },
    { left: 'ran out', until: day(3), ends: day(55) },
    { left: 'runs out in this second', until: day(10), ends: day(55) },
    { left: 'is still running', until: day(20), ends: day(65) },
  ])('45 days granted on day 10 when credit $left', ({ until, ends }) => {
    expect(stackCredit(day(10), until, 45 * DAY)).toEqual(ends);
  });
});

describe('how days add up (design: rule 8)', () => {
  test.each<{ story: string; moves: Move[]; is: CreditBalance }>([
    {
      story: 'pays from day 0, grant on day 10: credit is held',
      moves: [
        { at: 0, kind: 'hold' },
        { at: 10, kind: 'grant', days: 45 },
      ],
      is: { creditUntil: day(55), creditHeldAt: day(10) },
    },
    {
      story: 'pays from day 0, grant on day 10, cancels on day 40: until day 85',
      moves: [
        { at: 0, kind: 'hold' },
        { at: 10, kind: 'grant', days: 45 },
        { at: 40, kind: 'resume' },
      ],
      is: { creditUntil: day(85), creditHeldAt: null },
    },
    {
      story: 'pays from day 0, grants on days 10 and 70, ends on day 100: until day 190',
      moves: [
        { at: 0, kind: 'hold' },
        { at: 10, kind: 'grant', days: 45 },
        { at: 70, kind: 'grant', days: 45 },
        { at: 100, kind: 'resume' },
      ],
      is: { creditUntil: day(190), creditHeldAt: null },
    },
    {
      story: 'cancels on day 40, pays again from day 60 with 25 days left, ends on day 200: until day 225',
      moves: [
        { at: 0, kind: 'hold' },
        { at: 10, kind: 'grant', days: 45 },
        { at: 40, kind: 'resume' },
        { at: 60, kind: 'hold' },
        { at: 200, kind: 'resume' },
      ],
      is: { creditUntil: day(225), creditHeldAt: null },
    },
    {
      story: 'credit until day 30, pays from day 20 to 50: until day 60',
      moves: [
        { at: 0, kind: 'grant', days: 30 },
        { at: 20, kind: 'hold' },
        { at: 50, kind: 'resume' },
      ],
      is: { creditUntil: day(60), creditHeldAt: null },
    },
    {
      story: 'granted 45 days on day 0 and refunded on day 20, both while paying: the buyer loses 45',
      moves: [
        { at: 0, kind: 'hold' },
        { at: 0, kind: 'grant', days: 45, of: 'A' },
        { at: 20, kind: 'reversal', days: 45, of: 'A' },
      ],
      is: { creditUntil: day(20), creditHeldAt: day(20) },
    },
    {
      story:
        'free, grants A on day 0 and B on day 5, A reversed on day 20, the dispute won on day 80: until day 105',
      moves: [
        { at: 0, kind: 'grant', days: 45, of: 'A' },
        { at: 5, kind: 'grant', days: 45, of: 'B' },
        { at: 20, kind: 'reversal', days: 25, of: 'A' },
        { at: 80, kind: 'restoration', days: 25, of: 'A' },
      ],
      is: { creditUntil: day(105), creditHeldAt: null },
    },
  ])('$story', ({ moves, is }) => {
    expect(foldLedger(ledger(moves))).toEqual(is);
  });
});

describe('what is unspent of a conversion (design: rule 9)', () => {
  const A: Move = { at: 0, kind: 'grant', days: 45, of: 'A' };
  const B: Move = { at: 5, kind: 'grant', days: 45, of: 'B' };

  test.each<{ story: string; moves: Move[]; at: number; of: string; days: number }>([
    { story: 'free, on the day of the grant', moves: [A], at: 0, of: 'A', days: 45 },
    { story: 'free, after 20 days', moves: [A], at: 20, of: 'A', days: 25 },
    { story: 'free, after 50 days', moves: [A], at: 50, of: 'A', days: 0 },
    { story: 'of two grants the oldest is spent first', moves: [A, B], at: 20, of: 'A', days: 25 },
    {
      story: 'the newer of two grants is whole while the older one lasts',
      moves: [A, B],
      at: 20,
      of: 'B',
      days: 45,
    },
    {
      story: 'the newer of two grants is spent once the older one is gone',
      moves: [A, B],
      at: 50,
      of: 'B',
      days: 40,
    },
    { story: 'held credit is not spent', moves: [A, { at: 10, kind: 'hold' }], at: 30, of: 'A', days: 35 },
    {
      story: 'after a reversal',
      moves: [A, { at: 10, kind: 'reversal', days: 35, of: 'A' }],
      at: 10,
      of: 'A',
      days: 0,
    },
    {
      story: 'after a restoration',
      moves: [
        A,
        { at: 10, kind: 'reversal', days: 35, of: 'A' },
        { at: 20, kind: 'restoration', days: 35, of: 'A' },
      ],
      at: 25,
      of: 'A',
      days: 30,
    },
  ])('$story: $days days of $of are unspent', ({ moves, at, of, days }) => {
    expect(unspentOfReferral(ledger(moves), of, day(at))).toBe(days * DAY);
  });
});

describe('held credit', () => {
  const running: CreditBalance = { creditUntil: day(30), creditHeldAt: null };

  test('held credit is not used up, and what was left runs after the release', () => {
    const still = held(running, day(20));
    expect(creditLeft(still, day(500))).toBe(10 * DAY);
    expect(resumed(still, day(500))).toEqual({ creditUntil: day(510), creditHeldAt: null });
  });

  test('credit that ran out before the hold does not come back', () => {
    expect(creditLeft(held(running, day(31)), day(40))).toBe(0);
    expect(resumed(held(running, day(31)), day(40))).toEqual({ creditUntil: day(40), creditHeldAt: null });
  });

  test('a grant and a reversal during a hold count from their own instants', () => {
    const more = granted(held(running, day(20)), day(25), 45 * DAY);
    expect(more).toEqual({ creditUntil: day(80), creditHeldAt: day(25) });
    expect(taken(more, day(26), 45 * DAY)).toEqual({ creditUntil: day(36), creditHeldAt: day(26) });
  });

  test('a hold or release without credit leaves no credit', () => {
    expect(creditLeft(NO_CREDIT, day(0))).toBe(0);
    expect(creditLeft(held(NO_CREDIT, day(0)), day(1))).toBe(0);
    expect(resumed(held(NO_CREDIT, day(0)), day(9))).toEqual(NO_CREDIT);
  });
});

describe('a broken ledger is reported', () => {
  const moves: Move[] = [
    { at: 0, kind: 'grant', days: 45, of: 'A' },
    { at: 10, kind: 'reversal', days: 35, of: 'A' },
    { at: 20, kind: 'restoration', days: 35, of: 'A' },
  ];
  const entries = ledger(moves);
  const user = {
    ...foldLedger(entries),
    creditEntryCount: 3,
    creditEntryAt: day(20),
    tier: 'free',
  };
  const [first, second, third] = entries as [CreditEntry, CreditEntry, CreditEntry];

  test.each([
    { what: 'a consistent ledger has no findings', user, entries, says: [] },
    {
      what: 'creditUntil differs from the ledger',
      user: { ...user, creditUntil: day(1) },
      entries,
      says: ['the ledger gives a different creditUntil'],
    },
    {
      what: 'the column says held, the ledger does not',
      user: { ...user, creditHeldAt: day(20), tier: 'paid' },
      entries,
      says: ['the ledger gives a different creditHeldAt'],
    },
    {
      what: 'a paid user whose credit is not held',
      user: { ...user, tier: 'paid' },
      entries,
      says: ['credit is held but the tier is not paid, or the other way round'],
    },
    {
      what: 'the number of entries differs',
      user: { ...user, creditEntryCount: 2 },
      entries,
      says: ['creditEntryCount differs from the number of ledger entries'],
    },
    {
      what: 'the instant of the last entry differs',
      user: { ...user, creditEntryAt: day(19) },
      entries,
      says: ["creditEntryAt differs from the last entry's instant"],
    },
    {
      what: 'a gap in the sequence numbers',
      user,
      entries: [first, second, { ...third, seq: 4 }],
      says: ['the sequence numbers are not 1, 2, 3 …'],
    },
    {
      what: 'an entry dated before the previous one',
      user: { ...user, ...foldLedger([first, { ...second, at: day(-1) }, third]) },
      entries: [first, { ...second, at: day(-1) }, third],
      says: ['an entry is earlier than its predecessor'],
    },
    {
      what: 'more returned than was taken',
      user: { ...user, ...foldLedger([first, second, { ...third, seconds: 36 * DAY }]) },
      entries: [first, second, { ...third, seconds: 36 * DAY }],
      says: ['a reversal and its restoration do not match'],
    },
  ])('ledger check: $what', ({ user, entries, says }) => {
    expect(checkLedger(user, entries)).toEqual(says);
  });
});
