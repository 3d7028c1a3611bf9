import { describe, expect, test } from 'vitest';

import { noticesOf } from '../../src/http/credit-words.ts';
import type { ToldEntry } from '../../src/referrals/credit-news.ts';
import { day } from './subscription-row.ts';

const DAYS = 86_400;

/** One side's entries about one referral, each on its day. */
function entries(...changes: [kind: 'grant' | 'reversal' | 'restoration', at: number][]): ToldEntry[] {
  return changes.map(([kind, at], index) => ({
    userId: 'ann',
    seq: index + 1,
    at: day(at),
    kind,
    seconds: 45 * DAYS,
    referralId: 'one',
    causeId: `cause-${index}`,
    side: 'referrer',
  }));
}

const texts = (news: ToldEntry[]): string[] => noticesOf(news).map(({ text }) => text);

test('news of days that are taken, given back and taken again names them once', () => {
  expect(texts(entries(['reversal', 1], ['restoration', 2], ['reversal', 3]))).toEqual([
    'A friend’s payment now counts: you got 45 days.',
    'A friend’s first payment no longer counts, so what was left of the free days you got for it was removed: 45 days.',
  ]);
});

test('news of days that were used up says nothing of a payment that counts again', () => {
  const usedUp = entries(['reversal', 1], ['restoration', 2]).map((entry) => ({ ...entry, seconds: 0 }));
  expect(texts(usedUp)).toEqual([]);
  expect(texts(usedUp.slice(0, 1))).toEqual([
    'A friend’s first payment no longer counts. You had already used the free days you got for it, so nothing was removed.',
  ]);
});

describe('news of days whose payment had gone back before it converted', () => {
  test('is none while they are taken', () => {
    expect(texts(entries(['grant', 1], ['reversal', 1]))).toEqual([]);
  });

  test('begins with the first time that they are given back', () => {
    expect(texts(entries(['grant', 1], ['reversal', 1], ['restoration', 2]))).toEqual([
      'A friend of yours made a first payment: you got 45 days.',
    ]);
  });

  test('counts the friend once, however often the days come and go', () => {
    const news = entries(
      ['grant', 1],
      ['reversal', 1],
      ['restoration', 2],
      ['reversal', 3],
      ['restoration', 4],
    );
    expect(texts(news)).toEqual([
      'A friend of yours made a first payment: you got 45 days.',
      'A friend’s first payment no longer counts, so what was left of the free days you got for it was removed: 45 days.',
      'A friend’s payment now counts: you got 45 days.',
    ]);
  });
});
