import { noRows } from '../../src/db/rows.ts';
import type { Rows, UserRow } from '../../src/db/rows.ts';
import type { Unit } from '../../src/db/unit-of-work.ts';
import { day } from './subscription-row.ts';

export const FRIEND = 'friend';
export const REFERRER = 'referrer';
export const CLAWBACK_DAYS = 30;

/** A user with an account and nothing else. */
export function userRow(id: string): UserRow {
  return {
    id,
    emailHash: id,
    tier: 'free',
    creditUntil: null,
    creditHeldAt: null,
    creditEntryCount: 0,
    creditEntryAt: null,
    deletedAt: null,
    formerHashes: [],
  };
}

/** An invited user who has not paid. */
export function invitation(): Rows {
  const rows = noRows();
  for (const id of [FRIEND, REFERRER]) rows.users.set(id, userRow(id));
  rows.referrals.set(FRIEND, {
    id: 'referral',
    referrerId: REFERRER,
    referredId: FRIEND,
    referredHash: null,
    createdAt: day(0),
    convertedAt: null,
    creditedAt: null,
    reversedAt: null,
    refusedFor: null,
    ownAddress: false,
    addressConverted: false,
  });
  return rows;
}

/**
 * A unit of work on rows in memory. Whatever it asks for is there: the ledgers are in the rows, nobody had a trial, and
 * no event is stored.
 */
export function unitOf(rows: Rows, now: Date, events: readonly string[] = []): Unit {
  return {
    now,
    programme: { clawbackDays: CLAWBACK_DAYS, products: null, mail: false },
    rows,
    answers: {
      ledgers: new Map([...rows.users.keys()].map((id) => [id, []])),
      trials: new Map([...rows.users.keys()].map((id) => [id, { byAnother: 0, held: 0 }])),
      events: new Map(events.map((id) => [id, null])),
    },
    afterCommit: () => undefined,
  };
}
