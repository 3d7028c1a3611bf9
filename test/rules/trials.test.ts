import { expect, test } from 'vitest';

import { follow } from '../../src/access/follow.ts';
import { FRIEND, invitation, unitOf } from './invitation.ts';
import { day, subscriptionRow } from './subscription-row.ts';

test.each([
  ['is given to the address', false, FRIEND],
  [
    'that the owner of the address released is not given to it, although its cancellation is still unheard of',
    true,
    null,
  ],
])('a trial %s', (_what, trialReleased, trialHash) => {
  const rows = invitation();
  const state = {
    deletedAt: null,
    missingAt: null,
    ours: true,
    retiredAt: day(1),
    balanceTo: null,
    balanceMovedAt: null,
    balanceTries: 0,
  };
  rows.customers.set('cus_1', { id: 'cus_1', userId: FRIEND, linkedAt: day(0), ...state });
  const trial = { status: 'trialing', trialEnd: day(14), activeAt: null, provenAt: null, trialReleased };
  rows.subscriptions.set('sub_1', subscriptionRow(trial));
  follow(unitOf(rows, day(1)), FRIEND, { id: 'evt_1', actor: 'stripe' }, false);
  expect(rows.subscriptions.get('sub_1')).toMatchObject({ trialHash });
});
