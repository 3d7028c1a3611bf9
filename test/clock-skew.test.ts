import { describe, expect, test } from 'vitest';

import { invitation } from './support/invited-friend.ts';
import { daysAfter, deliver, deliverAll, START, userRow } from './support/server.ts';

const HOUR = 3600;
const seconds = (n: number): Date => new Date(START.getTime() + n * 1000);

describe("when Stripe's clock and ours differ", () => {
  test.each([
    ['an hour in our future', HOUR],
    ['an hour in our past', -HOUR],
  ])(
    'events %s: the grant and what follows it are dated by our clock, to the second',
    async (_name, skew) => {
      const { server, friend, referrer, stripe } = await invitation();
      const at = { at: seconds(skew) };
      await deliverAll(server, [
        stripe.checkoutCompleted({}, at),
        stripe.created({}, at),
        stripe.invoicePaid({}, at),
        stripe.invoicePaymentPaid({}, at),
      ]);
      expect(await userRow(server, friend.id)).toMatchObject({
        tier: 'paid',
        creditUntil: daysAfter(45),
        creditHeldAt: START,
      });
      expect(await userRow(server, referrer.id)).toMatchObject({ creditUntil: daysAfter(45) });

      server.clock.now = daysAfter(10);
      await deliverAll(server, [
        stripe.chargeRefunded({}, { at: new Date(daysAfter(10).getTime() + skew * 1000) }),
      ]);
      expect(await userRow(server, friend.id)).toMatchObject({ creditUntil: daysAfter(10) });
      expect(await userRow(server, referrer.id)).toMatchObject({ creditUntil: daysAfter(10) });
    },
  );

  test('a subscription that ended an hour in our future: credit runs from now', async () => {
    const { server, friend, stripe } = await invitation();
    await deliverAll(server, [stripe.checkoutCompleted(), stripe.created()]);
    server.clock.now = daysAfter(10);
    await deliverAll(server, [stripe.ended(new Date(daysAfter(10).getTime() + HOUR * 1000))]);
    expect(await userRow(server, friend.id)).toMatchObject({
      tier: 'free',
      creditUntil: daysAfter(55),
      creditHeldAt: null,
      creditEntryAt: daysAfter(10),
    });
  });

  test('a subscription that ended an hour before the last ledger entry: credit runs from that entry', async () => {
    const { server, friend, stripe } = await invitation();
    await deliverAll(server, [stripe.checkoutCompleted(), stripe.created()]);
    server.clock.now = seconds(60);
    await deliverAll(server, [stripe.ended(seconds(-HOUR))]);
    expect(await userRow(server, friend.id)).toMatchObject({
      tier: 'free',
      creditUntil: daysAfter(45),
      creditHeldAt: null,
      creditEntryAt: START,
    });
  });

  test('setting our clock back by an hour between two events does not put ledger entries out of order', async () => {
    const { server, friend, referrer, stripe } = await invitation();
    await deliverAll(server, [stripe.checkoutCompleted(), stripe.created(), stripe.invoicePaid()]);
    server.clock.now = seconds(-HOUR);
    await deliverAll(server, [stripe.invoicePaymentPaid(), stripe.chargeRefunded()]);
    expect(await userRow(server, friend.id)).toMatchObject({ creditUntil: START, creditEntryAt: START });
    expect(await userRow(server, referrer.id)).toMatchObject({ creditUntil: START, creditEntryAt: START });
    await deliverAll(server, [stripe.ended(START)]);
    expect(await userRow(server, friend.id)).toMatchObject({ tier: 'free', creditEntryAt: START });
  });

  test("the snapshots of a subscription are ordered by Stripe's clock, whatever ours says", async () => {
    const { server, friend, stripe } = await invitation();
    await deliverAll(server, [
      stripe.checkoutCompleted(),
      stripe.created({}, { at: seconds(HOUR) }),
      stripe.updated({ status: 'unpaid' }, { at: seconds(HOUR + 10) }),
    ]);
    const late = stripe.updated({}, { at: seconds(HOUR + 5) });
    server.clock.now = seconds(2 * HOUR);
    expect((await deliver(server, late)).json()).toMatchObject({ status: 'ignored' });
    expect(await userRow(server, friend.id)).toMatchObject({ tier: 'free' });
  });
});
