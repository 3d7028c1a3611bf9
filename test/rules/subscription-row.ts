import type { Subscription } from '../../src/db/generated/client.ts';

/** Day 0 of a story. */
const DAY_0 = Date.UTC(2027, 0, 10);

/** The instant `days` after day 0, UTC. */
export function day(days: number): Date {
  return new Date(DAY_0 + days * 86_400_000);
}

/** A subscription's row: active since day 0 and paid, unless the test overrides it. */
export function subscriptionRow(columns: Partial<Subscription> = {}): Subscription {
  return {
    id: 'sub_1',
    customerId: 'cus_1',
    status: 'active',
    createdAt: day(0),
    priceId: 'price_m',
    currentPeriodEnd: day(30),
    otherItems: null,
    trialEnd: null,
    cancelAt: null,
    cancelAtPeriodEnd: false,
    collectionPaused: false,
    collectionResumesAt: null,
    endedAt: null,
    endReason: null,
    nextAttemptAt: null,
    snapshotAt: day(0),
    snapshotEventId: 'evt_1',
    statusAt: day(0),
    givesSince: day(0),
    gaveOtherwiseAt: null,
    needsReconcile: false,
    missingAt: null,
    counts: true,
    counted: true,
    activeAt: day(0),
    doubtAt: null,
    checkoutUnpaid: false,
    provenAt: day(0),
    firstPaidAt: null,
    moneyBack: false,
    trialHash: null,
    trialRefused: false,
    trialReleased: false,
    ...columns,
  };
}
