import { describe, expect, test } from 'vitest';

import { invitedFriend } from './support/invited-friend.ts';
import { daysAfter, deliver, startTestServer, userRow } from './support/server.ts';
import type { Buyer } from './support/stripe-events.ts';

/** A friend who paid on day 0, with a converted referral. */
async function conversion() {
  const server = await startTestServer();
  const { referrer, friend, stripe } = await invitedFriend(server);
  const hear = async (day: number, ...events: object[]): Promise<object[]> => {
    server.clock.now = daysAfter(day);
    const answers = [];
    for (const event of events) answers.push((await deliver(server, event)).json<object>());
    return answers;
  };
  await hear(
    0,
    stripe.checkoutCompleted(),
    stripe.created(),
    stripe.invoicePaid(),
    stripe.invoicePaymentPaid(),
  );
  const state = async () => {
    const referral = await server.db.referral.findUniqueOrThrow({ where: { referredId: friend.id } });
    const { creditUntil } = await userRow(server, referrer.id);
    await userRow(server, friend.id);
    return { reversedAt: referral.reversedAt, referrer: creditUntil };
  };
  return { server, stripe, hear, state };
}

const HOLDS = { reversedAt: null, referrer: daysAfter(45) };
const reversedOn = (day: number) => ({ reversedAt: daysAfter(day), referrer: daysAfter(day) });
const restoredOn = (day: number, reversed: number) => ({
  reversedAt: null,
  referrer: daysAfter(day + 45 - reversed),
});

function refundChanged(
  stripe: Buyer,
  type: string,
  status: string,
  day: number,
  previous?: Record<string, unknown>,
) {
  const options = { at: daysAfter(day), ...(previous && { previous }) };
  return { ...stripe.refundFailed({ status }, options), type };
}

describe('a refund that fails or is cancelled', () => {
  const told = ['refund.updated', 'charge.refund.updated'].flatMap((type) =>
    ['canceled', 'failed'].map((status) => [type, status] as const),
  );

  test.each(told)('%s with the status %s gives back exactly what the refund took', async (type, status) => {
    const { stripe, hear, state } = await conversion();
    await hear(10, stripe.chargeRefunded({}, { at: daysAfter(10) }));
    expect(await state()).toEqual(reversedOn(10));
    await hear(12, refundChanged(stripe, type, status, 12, { status: 'pending' }));
    expect(await state()).toEqual(restoredOn(12, 10));
    // All of Stripe's events about one cancellation have the same second.
    await hear(13, refundChanged(stripe, 'charge.refund.updated', status, 12, { status: 'pending' }));
    expect(await state()).toEqual(restoredOn(12, 10));
    await hear(15, stripe.chargeRefunded({}, { at: daysAfter(15) }));
    expect(await state()).toEqual(reversedOn(15));
  });

  test.each(told)(
    '%s with the status %s, arriving before the refund: nothing is taken',
    async (type, status) => {
      const { stripe, hear, state } = await conversion();
      await hear(12, refundChanged(stripe, type, status, 12));
      await hear(13, stripe.chargeRefunded({}, { at: daysAfter(10) }));
      expect(await state()).toEqual(HOLDS);
    },
  );

  test.each(['pending', 'requires_action', 'succeeded', 'an_unknown_status'])(
    'a refund update with the status %s changes nothing',
    async (status) => {
      const { stripe, hear, state } = await conversion();
      await hear(10, stripe.chargeRefunded({}, { at: daysAfter(10) }));
      for (const type of ['refund.updated', 'charge.refund.updated']) {
        expect(await hear(12, refundChanged(stripe, type, status, 12, { status: 'pending' }))).toEqual([
          { status: 'ignored', reason: 'charge.refunded reports refunds that succeed' },
        ]);
      }
      expect(await state()).toEqual(reversedOn(10));
    },
  );

  test('an unrelated update of a refund that failed long ago does not undo a later refund', async () => {
    const { stripe, hear, state } = await conversion();
    await hear(10, stripe.chargeRefunded({}, { at: daysAfter(10) }));
    await hear(12, stripe.refundFailed({}, { at: daysAfter(12) }));
    await hear(15, stripe.chargeRefunded({}, { at: daysAfter(15) }));
    const [answer] = await hear(20, refundChanged(stripe, 'refund.updated', 'failed', 20, { metadata: {} }));
    expect(answer).toEqual({ status: 'ignored', reason: 'the status of the refund did not change' });
    expect(await state()).toEqual(reversedOn(15));
  });
});

describe('an appeal against a lost dispute', () => {
  const APPEALS = ['appeal_needs_response', 'appeal_under_review', 'appeal_unknown'];

  test.each(APPEALS)('a dispute with status %s is still lost until it is won', async (status) => {
    const { stripe, hear, state } = await conversion();
    const dispute = stripe.dispute(daysAfter(5));
    await hear(10, dispute.opened(), dispute.lost(daysAfter(10)));
    expect(await state()).toEqual(reversedOn(10));
    await hear(12, dispute.updated(status, daysAfter(12)));
    expect(await state()).toEqual(reversedOn(10));
    await hear(20, dispute.wonAfterAll(daysAfter(20)));
    expect(await state()).toEqual(restoredOn(20, 10));
  });

  test.each(APPEALS)('%s, whose loss never arrived, takes the days back', async (status) => {
    const { stripe, hear, state } = await conversion();
    const dispute = stripe.dispute(daysAfter(5));
    await hear(12, dispute.opened(), dispute.updated(status, daysAfter(12)));
    expect(await state()).toEqual(reversedOn(12));
  });

  test('an appeal that is lost as well changes nothing', async () => {
    const { stripe, hear, state } = await conversion();
    const dispute = stripe.dispute(daysAfter(5));
    await hear(10, dispute.opened(), dispute.lost(daysAfter(10)));
    await hear(12, dispute.updated('appeal_under_review', daysAfter(12)), dispute.lost(daysAfter(15)));
    expect(await state()).toEqual(reversedOn(10));
  });

  test('a dispute lost, appealed and won in one second is won, in any order', async () => {
    const orders = [
      ['lost', 'appeal', 'won'],
      ['won', 'appeal', 'lost'],
      ['appeal', 'won', 'lost'],
      ['won', 'lost', 'appeal'],
    ] as const;
    for (const order of orders) {
      const { stripe, hear, state } = await conversion();
      const dispute = stripe.dispute(daysAfter(5));
      const events = {
        lost: dispute.lost(daysAfter(10)),
        appeal: dispute.updated('appeal_under_review', daysAfter(10)),
        won: dispute.wonAfterAll(daysAfter(10)),
      };
      await hear(10, ...order.map((key) => events[key]));
      expect((await state()).reversedAt, order.join(', ')).toBeNull();
    }
  });

  test.each(['warning_closed', 'charge_refunded'])('a dispute with status %s is not lost', async (status) => {
    const { stripe, hear, state } = await conversion();
    const dispute = stripe.dispute(daysAfter(5));
    await hear(12, dispute.opened(), dispute.updated(status, daysAfter(12)));
    expect(await state()).toEqual(HOLDS);
  });

  test('a dispute that was prevented, because the cardholder got the money back at once, counts as lost', async () => {
    const { stripe, hear, state } = await conversion();
    const { opened, updated } = stripe.dispute(daysAfter(5));
    const created = { ...updated('prevented', daysAfter(5)), type: opened().type };
    await hear(5, created);
    expect(await state()).toEqual(reversedOn(5));
  });
});
