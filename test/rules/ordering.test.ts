import { describe, expect, test } from 'vitest';

import { readEvent } from '../../src/stripe/objects/event.ts';
import type { StripeEvent } from '../../src/stripe/objects/event.ts';
import { breakTie, differingFields, orderSnapshot } from '../../src/stripe/objects/snapshot-order.ts';
import { readSubscription } from '../../src/stripe/objects/subscription-shape.ts';
import type { SubscriptionState } from '../../src/stripe/objects/subscription-shape.ts';
import { day } from './subscription-row.ts';

function object(fields: object): object {
  return { id: 'sub_1', customer: 'cus_1', status: 'active', ...fields };
}

function state(fields: object = {}): SubscriptionState {
  return readSubscription(object(fields), null).state;
}

describe('which snapshot is current (design: rule 7)', () => {
  const canceled = state({ status: 'canceled' });
  test.each([
    {
      what: 'a newer snapshot',
      held: state(),
      heard: state({ status: 'unpaid' }),
      at: day(1),
      order: 'later',
    },
    {
      what: 'an older snapshot',
      held: state(),
      heard: state({ status: 'unpaid' }),
      at: day(-1),
      order: 'earlier',
    },
    { what: 'the same state again', held: state(), heard: state(), at: day(0), order: 'same' },
    {
      what: 'a different snapshot of the same second',
      held: state(),
      heard: state({ status: 'unpaid' }),
      at: day(0),
      order: 'tie',
    },
    {
      what: 'an end that is older than the stored snapshot',
      held: state(),
      heard: canceled,
      at: day(-9),
      order: 'later',
    },
    { what: 'an end of the same second', held: state(), heard: canceled, at: day(0), order: 'later' },
    { what: 'a snapshot newer than an end', held: canceled, heard: state(), at: day(9), order: 'earlier' },
    {
      what: 'a snapshot of the same second as an end',
      held: canceled,
      heard: state(),
      at: day(0),
      order: 'earlier',
    },
    {
      what: 'a second final status, newer',
      held: canceled,
      heard: state({ status: 'incomplete_expired' }),
      at: day(1),
      order: 'later',
    },
    {
      what: 'a second final status, older',
      held: canceled,
      heard: state({ status: 'incomplete_expired' }),
      at: day(-1),
      order: 'earlier',
    },
  ])('$what is $order', ({ held, heard, at, order }) => {
    expect(orderSnapshot({ state: held, at: day(0) }, heard, at)).toBe(order);
  });
});

function event(type: 'created' | 'updated', fields: object, before: object = {}): StripeEvent {
  const body = {
    id: 'evt_1',
    type: `customer.subscription.${type}`,
    data: { object: object(fields), previous_attributes: before },
  };
  const read = readEvent(body, day(0));
  if (!read) throw new Error('This is not an event.');
  return read;
}

describe('two snapshots of one second (design: rule 7)', () => {
  const created = event('created', { status: 'incomplete' });
  const activated = event('updated', { status: 'active' }, { status: 'incomplete' });
  const cancelling = event(
    'updated',
    { status: 'active', cancel_at_period_end: true },
    { cancel_at_period_end: false },
  );
  const unpaid = event('updated', { status: 'unpaid' }, { status: 'past_due' });
  const paused = { pause_collection: { behavior: 'void', resumes_at: 10 } };
  const renamed = event('updated', paused, { metadata: { name: 'before' } });
  const pausedOtherwise = event(
    'updated',
    { status: 'past_due', pause_collection: { behavior: 'keep_as_draft', resumes_at: 10 } },
    { status: 'active', pause_collection: { behavior: 'void' } },
  );
  const toAndFro = event('updated', { status: 'incomplete' }, { status: 'active' });

  test.each([
    { what: 'created never overrides', a: activated, b: created, is: 'earlier' },
    { what: 'created, when the event of the row is no longer known', a: null, b: created, is: 'earlier' },
    { what: 'anything that follows created', a: created, b: activated, is: 'later' },
    { what: 'the previous values in B are those of A', a: activated, b: cancelling, is: 'later' },
    { what: 'the previous values in A are those of B', a: cancelling, b: activated, is: 'earlier' },
    {
      what: 'both fit, one by an object whose previous value names only what changed in it',
      a: renamed,
      b: pausedOtherwise,
      is: 'undecided',
    },
    { what: 'neither fits', a: unpaid, b: activated, is: 'undecided' },
    { what: 'both fit', a: activated, b: toAndFro, is: 'undecided' },
    { what: 'the event of the row is no longer known', a: null, b: activated, is: 'undecided' },
  ])('$what: $is', ({ a, b, is }) => {
    expect(breakTie(a, b, null)).toBe(is);
  });
});

test('instants are compared by their time', () => {
  expect(differingFields(state({ trial_end: 10 }), state({ trial_end: 10 }))).toEqual([]);
  expect(differingFields(state({ trial_end: 10 }), state({ trial_end: 11 }))).toEqual(['trialEnd']);
});
