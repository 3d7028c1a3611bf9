import { describe, expect, test } from 'vitest';

import { afterProof, afterSnapshot, turnedAt } from '../../src/access/paid-time.ts';
import type { PaidTimeSoFar } from '../../src/access/paid-time.ts';
import { permutations } from '../support/permutations.ts';
import { day, subscriptionRow } from './subscription-row.ts';

/** The day of a snapshot, and whether it gives a paid tier. */
type Heard = [at: number, paid: boolean];

/** What is known after these snapshots, in the order of their arrival; the row keeps the newest. */
function hear(...snapshots: Heard[]): PaidTimeSoFar | null {
  return snapshots.reduce<PaidTimeSoFar | null>((known, [at, paid]) => {
    const isNewest = known?.snapshotAt == null || day(at) > known.snapshotAt;
    return afterSnapshot(known, { paid, at: day(at) }, isNewest);
  }, null);
}

describe('since when a subscription gives its tier (design: rule 8)', () => {
  test.each<{ story: string; snapshots: Heard[]; since: number }>([
    { story: 'a subscription paid from its first snapshot', snapshots: [[0, true]], since: 0 },
    {
      story: 'a subscription that renewed',
      snapshots: [
        [0, true],
        [30, true],
        [60, true],
      ],
      since: 0,
    },
    {
      story: 'a subscription that ended',
      snapshots: [
        [0, true],
        [40, false],
      ],
      since: 40,
    },
    {
      story: 'unpaid on day 45 and canceled on day 90',
      snapshots: [
        [0, true],
        [45, false],
        [90, false],
      ],
      since: 45,
    },
    {
      story: 'a subscription paid after an incomplete start',
      snapshots: [
        [0, false],
        [1, true],
      ],
      since: 1,
    },
  ])('$story, in any order of arrival', ({ snapshots, since }) => {
    for (const order of permutations(snapshots))
      expect([order, hear(...order)?.givesSince]).toEqual([order, day(since)]);
  });

  test('a late snapshot splits a paid stretch, whose second part counts from the newest snapshot', () => {
    expect(hear([0, true], [30, true], [20, false])).toMatchObject({
      givesSince: day(30),
      gaveOtherwiseAt: day(20),
    });
  });

  test('a late snapshot from an earlier stretch changes nothing', () => {
    const story: Heard[] = [
      [0, true],
      [10, false],
      [20, true],
    ];
    expect(hear(...story, [5, false])).toEqual(hear(...story));
  });

  test('a payment that arrives while past due counts from its own instant', () => {
    const unproven: PaidTimeSoFar = {
      paid: false,
      givesSince: day(8),
      gaveOtherwiseAt: day(7),
      snapshotAt: day(8),
    };
    expect(afterProof(unproven, day(8), day(12))).toMatchObject({
      paid: true,
      givesSince: day(12),
      gaveOtherwiseAt: day(8),
    });
  });

  test('a proof that arrives late counts from when it became past due', () => {
    const unproven: PaidTimeSoFar = {
      paid: false,
      givesSince: day(8),
      gaveOtherwiseAt: null,
      snapshotAt: day(8),
    };
    expect(afterProof(unproven, day(8), day(3))).toMatchObject({
      paid: true,
      givesSince: day(8),
      gaveOtherwiseAt: null,
    });
  });

  test('if the proof is withdrawn, the paid time ends when the subscription became past due', () => {
    const proven: PaidTimeSoFar = {
      paid: true,
      givesSince: day(0),
      gaveOtherwiseAt: null,
      snapshotAt: day(8),
    };
    expect(afterProof(proven, day(8), day(9))).toMatchObject({ paid: false, givesSince: day(8) });
  });
});

describe('when a user began or stopped paying (design: rule 8)', () => {
  const paying = (since: number) => subscriptionRow({ givesSince: day(since) });
  const over = (end: number, columns = {}) =>
    subscriptionRow({
      status: 'canceled',
      givesSince: day(end),
      gaveOtherwiseAt: day(0),
      endedAt: day(end),
      ...columns,
    });

  test('a user began to pay with the first subscription that made them paid', () => {
    expect(turnedAt([paying(20), paying(10), over(5)], 'paid')).toEqual(day(10));
  });

  test('a user stopped paying at the latest end of all subscriptions that ever made them paid, in any order', () => {
    expect(turnedAt([over(60), over(20)], 'free')).toEqual(day(60));
    expect(turnedAt([over(20), over(60)], 'trial')).toEqual(day(60));
  });

  test('the end of a subscription that never made them paid does not count', () => {
    const never = over(90, { gaveOtherwiseAt: null, provenAt: null });
    expect(turnedAt([over(20), never], 'free')).toEqual(day(20));
    expect(turnedAt([never], 'free')).toBeNull();
  });

  test('a payment shows that a subscription gave a paid tier, even without a snapshot that said so', () => {
    expect(turnedAt([over(90, { gaveOtherwiseAt: null, provenAt: day(0) })], 'free')).toEqual(day(90));
  });

  test('a subscription ended when it stopped giving a paid tier or when Stripe says, whichever was earlier', () => {
    expect(turnedAt([over(90, { givesSince: day(45) })], 'free')).toEqual(day(45));
    expect(turnedAt([over(45, { givesSince: day(90) })], 'free')).toEqual(day(45));
  });
});
