import { describe, expect, test } from 'vitest';

import { follow } from '../../src/access/follow.ts';
import { followMove, moveCustomer } from '../../src/access/move-customer.ts';
import { checkLedger } from '../../src/credits/fold.ts';
import type { Subscription } from '../../src/db/generated/client.ts';
import type { Rows } from '../../src/db/rows.ts';
import { FRIEND, invitation, REFERRER, unitOf, userRow } from './invitation.ts';
import { day, subscriptionRow } from './subscription-row.ts';

const OTHER = 'other';
const CAUSE = { id: 'the command', actor: 'operator', note: 'wrong account' } as const;

/** A friend who was invited and has the customer `cus_1`, and another account that nobody invited. */
function story(columns: Partial<Subscription> = {}): Rows {
  const rows = invitation();
  rows.users.set(OTHER, userRow(OTHER));
  rows.customers.set('cus_1', {
    id: 'cus_1',
    userId: FRIEND,
    linkedAt: day(0),
    deletedAt: null,
    missingAt: null,
    ours: true,
    retiredAt: null,
    balanceTo: null,
    balanceMovedAt: null,
    balanceTries: 0,
  });
  rows.subscriptions.set('sub_1', subscriptionRow(columns));
  follow(unitOf(rows, day(0)), FRIEND, { id: 'evt_1', actor: 'stripe' }, true);
  return rows;
}

/** Moves the customer, and checks that every ledger gives its columns. */
function move(rows: Rows, at: Date, to = OTHER): void {
  const customer = rows.customers.get('cus_1');
  if (!customer) throw new Error('There is no customer.');
  moveCustomer(unitOf(rows, at), customer, customer.userId, to, CAUSE);
  followMove(unitOf(rows, at), customer.userId, to, CAUSE);
  for (const user of rows.users.values()) {
    const entries = rows.entries.filter(({ userId }) => userId === user.id);
    expect(checkLedger(user, entries)).toEqual([]);
  }
}

function tierOf(rows: Rows, id: string): string | undefined {
  return rows.users.get(id)?.tier;
}

describe('a customer moves to another account (design: rules 3, 6 and 9)', () => {
  test('moveCustomer takes the tier with it, and reverses the conversion of the account that is left without proof', () => {
    const rows = story();
    move(rows, day(10));
    expect([tierOf(rows, FRIEND), tierOf(rows, OTHER)]).toEqual(['free', 'paid']);
    expect(rows.referrals.get(FRIEND)).toMatchObject({ convertedAt: day(0), reversedAt: day(10) });
    expect(rows.users.get(FRIEND)).toMatchObject({ creditUntil: day(10), creditHeldAt: null });
    expect(rows.users.get(REFERRER)).toMatchObject({ creditUntil: day(10) });
    // They have really paid since then.
    expect(rows.users.get(OTHER)).toMatchObject({ creditHeldAt: day(0), creditUntil: null });
  });

  test('moveCustomer is audited first, for both accounts, with one cause', () => {
    const rows = story();
    rows.audit = [];
    move(rows, day(10));
    expect(rows.audit.map(({ userId, kind, otherUserId }) => [userId, kind, otherUserId])).toEqual([
      [FRIEND, 'unlink', OTHER],
      [OTHER, 'link', FRIEND],
      [FRIEND, 'tier', null],
      [FRIEND, 'credit', null],
      [REFERRER, 'credit', null],
      [OTHER, 'tier', null],
    ]);
    for (const { causeId, actor, at } of rows.audit)
      expect({ causeId, actor, at }).toEqual({ causeId: CAUSE.id, actor: 'operator', at: day(10) });
  });

  test('moving it away and back leaves everybody with the same tier and the same days', () => {
    const rows = story();
    move(rows, day(10));
    move(rows, day(10), FRIEND);
    expect([tierOf(rows, FRIEND), tierOf(rows, OTHER)]).toEqual(['paid', 'free']);
    expect(rows.referrals.get(FRIEND)).toMatchObject({ convertedAt: day(0), reversedAt: null });
    expect(rows.users.get(FRIEND)).toMatchObject({ creditHeldAt: day(10), creditUntil: day(55) });
    expect(rows.users.get(REFERRER)).toMatchObject({ creditUntil: day(45) });
  });

  test('a retired customer is used by the new owner, and nothing is left of a move of its balance', () => {
    const rows = story();
    const customer = rows.customers.get('cus_1');
    const retired = { retiredAt: day(1), balanceTo: 'cus_2', balanceMovedAt: day(2) };
    if (customer) rows.customers.set('cus_1', { ...customer, ...retired });
    move(rows, day(10));
    const unused = { retiredAt: null, balanceTo: null, balanceMovedAt: null };
    expect(rows.customers.get('cus_1')).toMatchObject({ userId: OTHER, linkedAt: day(10), ...unused });
  });

  test('what another customer of the account gives stays', () => {
    const rows = story();
    rows.customers.set('cus_2', {
      id: 'cus_2',
      userId: FRIEND,
      linkedAt: day(0),
      deletedAt: null,
      missingAt: null,
      ours: true,
      retiredAt: null,
      balanceTo: null,
      balanceMovedAt: null,
      balanceTries: 0,
    });
    rows.subscriptions.set('sub_2', subscriptionRow({ id: 'sub_2', customerId: 'cus_2' }));
    move(rows, day(10));
    expect([tierOf(rows, FRIEND), tierOf(rows, OTHER)]).toEqual(['paid', 'paid']);
    expect(rows.referrals.get(FRIEND)).toMatchObject({ reversedAt: null });
  });

  test('a trial refused for one address is decided again for the other; a trial that has ended is not', () => {
    const trial = {
      status: 'trialing',
      trialEnd: day(14),
      activeAt: null,
      provenAt: null,
      trialRefused: true,
    };
    const rows = story(trial);
    expect(tierOf(rows, FRIEND)).toBe('free');
    move(rows, day(1));
    expect(tierOf(rows, OTHER)).toBe('trial');
    expect(rows.subscriptions.get('sub_1')).toMatchObject({ trialHash: OTHER, trialRefused: false });

    const past = story({ ...trial, status: 'canceled' });
    move(past, day(1));
    expect(past.subscriptions.get('sub_1')).toMatchObject({ trialHash: null, trialRefused: true });
  });
});
