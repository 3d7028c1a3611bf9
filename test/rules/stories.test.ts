import { expect, inject, test } from 'vitest';

import { ensureCustomerRow } from '../../src/access/customers.ts';
import { followMove, moveCustomer } from '../../src/access/move-customer.ts';
import { checkLedger } from '../../src/credits/fold.ts';
import type { Rows } from '../../src/db/rows.ts';
import { HANDLERS } from '../../src/stripe/handle-event.ts';
import { readEvent } from '../../src/stripe/objects/event.ts';
import type { StripeEvent } from '../../src/stripe/objects/event.ts';
import { SEED, seededRandom, shuffled } from '../support/seeded-random.ts';
import type { Draw } from '../support/seeded-random.ts';
import { CLAWBACK_DAYS, FRIEND, invitation, REFERRER, unitOf, userRow } from './invitation.ts';
import { day } from './subscription-row.ts';

// Random stories of a friend who was invited, played on the rules alone: no database, no server, no Stripe. Whatever
// order the events of a story arrive in, and whenever an operator moves a customer to another account, the tiers and the
// referrals end up as the facts say.

const STORIES = inject('thorough') ? 10_000 : 2_000;
const DAY = 86_400;

/** Another friend of the same referrer. */
const OTHER = 'other';

interface Told {
  customer: string;
  events: StripeEvent[];
  /** The tier that the subscription gives in the end. */
  tier: 'paid' | 'trial' | 'free';
  /** Its money arrived and did not all go back. */
  holds: boolean;
}

function event(id: string, type: string, at: number, object: object): StripeEvent {
  const created = Math.floor(day(at).getTime() / 1000);
  const read = readEvent({ id, type, created, data: { object } }, day(at));
  if (!read) throw new Error('This is not an event.');
  return read;
}

/** One subscription from beginning to end: Stripe's events, and what is true of it. */
function subscription(name: string, draw: Draw): Told {
  const id = `sub_${name}`;
  const customer = `cus_${name}`;
  const start = draw(20);
  const events: StripeEvent[] = [
    event(`link_${name}`, 'checkout.session.completed', start, {
      id: `cs_${name}`,
      customer,
      subscription: id,
      client_reference_id: FRIEND,
      payment_status: 'paid',
    }),
  ];
  const epoch = (at: number): number => Math.floor(day(at).getTime() / 1000);
  let told = 0;
  const snapshot = (at: number, status: string, more: object = {}): void => {
    told += 1;
    const type = told === 1 ? 'created' : status === 'canceled' ? 'deleted' : 'updated';
    const object = { id, customer, status, trial_end: null, ...more };
    events.push(event(`${id}_${told}`, `customer.subscription.${type}`, at, object));
  };

  const kind = ['bought', 'bought', 'trial', 'free of charge'][draw(4)];
  const trial = kind === 'trial' ? { trial_end: epoch(start + 7) } : {};
  const doubt = kind === 'free of charge' ? { discounts: ['di_1'] } : trial;
  const hasFirst = draw(4) > 0;
  const paidAt: number[] = [];
  snapshot(start, kind === 'trial' ? 'trialing' : 'active', doubt);
  let status = kind === 'trial' ? 'trialing' : 'active';
  if (kind === 'bought') {
    if (hasFirst) paidAt.push(start);
  } else {
    events.push(invoicePaid(`in_${name}_zero`, start, 0, true));
    if (draw(3) > 0) {
      // The trial becomes active before the card is charged; the coupon ends.
      if (kind === 'trial') snapshot(start + 7, (status = 'active'), trial);
      if (draw(3) > 0) paidAt.push(start + 7 + draw(3));
      else if (kind === 'trial') snapshot(start + 8, (status = 'past_due'), trial);
    }
  }
  if (paidAt.length > 0 && draw(2) === 0) paidAt.push(start + 37 + draw(3));

  let standing = 0;
  paidAt.forEach((at, index) => {
    const invoice = `in_${name}_${index}`;
    const payment = `pi_${name}_${index}`;
    events.push(
      invoicePaid(invoice, at, 900, index === 0 && kind === 'bought'),
      event(`inpay_${name}_${index}`, 'invoice_payment.paid', at, {
        id: `inpay_${name}_${index}`,
        invoice,
        payment: { payment_intent: payment },
      }),
    );
    if (!goesBack(`${name}_${index}`, payment, at)) standing += 1;
  });
  if (draw(2) === 0) snapshot(start + 80, (status = 'canceled'), { ...doubt, ended_at: epoch(start + 80) });

  const proven = paidAt.length > 0 || kind === 'bought';
  return {
    customer,
    events,
    tier:
      status === 'active' || (status === 'past_due' && proven)
        ? 'paid'
        : status === 'trialing'
          ? 'trial'
          : 'free',
    holds: proven && (paidAt.length === 0 || standing > 0),
  };

  function invoicePaid(invoice: string, at: number, amount: number, first: boolean): StripeEvent {
    return event(`${invoice}_paid`, 'invoice.paid', at, {
      id: invoice,
      customer,
      subscription: id,
      amount_paid: amount,
      billing_reason: first || amount === 0 ? 'subscription_create' : 'subscription_cycle',
      status_transitions: { paid_at: epoch(at) },
    });
  }

  /** Whether a payment went back for good. */
  function goesBack(which: string, payment: string, at: number): boolean {
    const charge = { id: `ch_${which}`, payment_intent: payment, refunded: true };
    const dispute = { id: `dp_${which}`, payment_intent: payment, created: epoch(at + 4) };
    switch (draw(8)) {
      case 0:
        events.push(event(`refund_${which}`, 'charge.refunded', at + 5, charge));
        return true;
      case 1:
        events.push(event(`refund_${which}`, 'charge.refunded', at + CLAWBACK_DAYS + 1, charge));
        return false;
      case 2:
        events.push(
          event(`refund_${which}`, 'charge.refunded', at + 5, charge),
          event(`failed_${which}`, 'refund.failed', at + 6, { id: `re_${which}`, payment_intent: payment }),
        );
        return false;
      case 3:
        events.push(event(`lost_${which}`, 'charge.dispute.closed', at + 50, { ...dispute, status: 'lost' }));
        return true;
      case 4:
        events.push(
          event(`lost_${which}`, 'charge.dispute.closed', at + 50, { ...dispute, status: 'lost' }),
          event(`won_${which}`, 'charge.dispute.updated', at + 70, { ...dispute, status: 'won' }),
        );
        return false;
      default:
        return false;
    }
  }
}

/** The invited friend, and another one. */
function invitations(): Rows {
  const rows = invitation();
  const [referral] = rows.referrals.values();
  if (!referral) throw new Error('The friend has no referral.');
  rows.users.set(OTHER, userRow(OTHER));
  rows.referrals.set(OTHER, { ...referral, id: 'another referral', referredId: OTHER });
  return rows;
}

/** An operator moves a customer to the other friend, or back. Returns the new owner; null when nothing is known of it. */
function moveOne(rows: Rows, id: string, now: Date, events: readonly string[]): string | null {
  const customer = rows.customers.get(id);
  if (!customer) return null;
  const to = customer.userId === OTHER ? FRIEND : OTHER;
  const cause = { id: `move ${now.toISOString()}`, actor: 'operator' } as const;
  moveCustomer(unitOf(rows, now, events), customer, customer.userId, to, cause);
  followMove(unitOf(rows, now, events), customer.userId, to, cause);
  return to;
}

test(`${STORIES} random stories end as the facts say, in whatever order they arrive and whoever gets a customer`, () => {
  const rank = { free: 0, trial: 1, paid: 2 };
  for (let story = 0; story < STORIES; story += 1) {
    const draw = seededRandom(`story ${story}`);
    const told = Array.from({ length: 1 + draw(2) }, (_, index) => subscription(`${index}`, draw));
    const events = shuffled(
      draw,
      told.flatMap((one) => one.events),
    );
    const rows = invitations();
    // We created them: a second trial of any other customer gives no access.
    for (const { customer } of told)
      rows.customers.set(customer, { ...ensureCustomerRow(unitOf(rows, day(0)), customer), ours: true });
    const owners = new Map(told.map(({ customer }) => [customer, FRIEND]));
    const moves = draw(3) === 0 ? 1 + draw(2) : 0;
    const movedAfter = Array.from({ length: moves }, () => draw(events.length));
    // Received long after it happened, one event an hour, so that nothing lies in the future.
    events.forEach((one, hour) => {
      const handler = HANDLERS.get(one.type);
      const now = new Date(day(200).getTime() + hour * 3_600_000);
      const unit = unitOf(
        rows,
        now,
        events.map(({ id }) => id),
      );
      const read = handler?.(one, unit.programme);
      if (read && 'apply' in read) read.apply(unit, 'unavailable');
      for (const _move of movedAfter.filter((index) => index === hour)) {
        const { customer } = told[draw(told.length)] ?? { customer: '' };
        const owner = moveOne(
          rows,
          customer,
          now,
          events.map(({ id }) => id),
        );
        if (owner !== null) owners.set(customer, owner);
      }
    });

    const why = `SEED=${SEED}, story ${story}: ${events.map(({ id }) => id).join(', ')}`;
    const granted = new Map<string, number>();
    for (const owner of [FRIEND, OTHER]) {
      const theirs = told.filter(({ customer }) => owners.get(customer) === owner);
      const best = theirs
        .map(({ tier }) => tier)
        .reduce<Told['tier']>((a, b) => (rank[b] > rank[a] ? b : a), 'free');
      expect(rows.users.get(owner)?.tier, why).toBe(best);
      const { convertedAt, reversedAt, refusedFor } = rows.referrals.get(owner) ?? {};
      expect(refusedFor, why).toBeNull();
      const holds = theirs.some((one) => one.holds);
      expect(convertedAt !== null && reversedAt === null, why).toBe(holds);
      granted.set(owner, convertedAt ? 45 * DAY : 0);
    }
    granted.set(REFERRER, (granted.get(FRIEND) ?? 0) + (granted.get(OTHER) ?? 0));
    for (const one of rows.users.values()) {
      const entries = rows.entries.filter(({ userId }) => userId === one.id);
      expect(checkLedger(one, entries), why).toEqual([]);
      const given = entries
        .filter(({ kind }) => kind === 'grant')
        .reduce((sum, { seconds }) => sum + seconds, 0);
      expect(given, why).toBe(granted.get(one.id));
    }
  }
}, 300_000);
