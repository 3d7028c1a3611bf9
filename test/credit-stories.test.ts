import { describe, expect, test } from 'vitest';

import { grantCredit } from '../src/operator/grant-credit.ts';
import { commandContext } from './support/command-context.ts';
import { creditStory } from './support/credit-story.ts';
import { creditOf, daysAfter, signUp } from './support/server.ts';
import type { Person } from './support/server.ts';
import {
  deliverWaiting,
  dropWaiting,
  paymentOf,
  reconcileWorld,
  startWorld,
  subscribe,
} from './support/stand-in.ts';

/** One account's story, told by events and an operator's grants. */
async function story() {
  const account = await creditStory();
  return { ...account, credit: () => creditOf(account.server, account.person) };
}

/** The same story with the stand-in for Stripe, told by webhooks or recovered by `reconcile`. */
async function storyAtStripe(by: 'webhooks' | 'reconcile') {
  const world = await startWorld();
  const referrer = await signUp(world, 'person@example.com');
  const hear = async (): Promise<void> => {
    if (by === 'webhooks') return deliverWaiting(world);
    dropWaiting(world);
    expect((await reconcileWorld(world)).differences.every(({ fixed }) => fixed)).toBe(true);
  };
  const onDay = async (day: number, act: () => unknown): Promise<void> => {
    world.clock.now = daysAfter(day);
    await act();
    await hear();
  };
  const credit = (person: Person) => creditOf(world, person);
  /** Pays at a checkout of the merchant's own, because no session cookie lasts as long as these stories. */
  const buys = async ({ id }: Person): Promise<string> => {
    const session = await world.merchant.checkout.sessions.create({
      mode: 'subscription',
      client_reference_id: id,
      line_items: [{ price: 'price_a', quantity: 1 }],
      success_url: 'http://tandem.test/',
    });
    return world.sandbox.acts.pay(session.id).subscription ?? '';
  };
  const grant = (days = 45) => grantCredit(commandContext(world), referrer.email, days, undefined);
  return { world, referrer, onDay, credit, buys, grant };
}

describe.each(['webhooks', 'reconcile'] as const)('the credit stories of the design, told by %s', (by) => {
  test('pays from day 0, grant on day 10, cancels on day 40, pays again from day 60 to 200: credit until day 85, then 225', async () => {
    const { world, referrer, onDay, credit, buys, grant } = await storyAtStripe(by);
    let subscription = '';
    const pays = async () => (subscription = await buys(referrer));
    const ends = () => world.merchant.subscriptions.cancel(subscription);
    await onDay(0, pays);
    await onDay(10, () => grant());
    expect(await credit(referrer)).toEqual({ creditUntil: daysAfter(55), creditHeldAt: daysAfter(10) });
    await onDay(40, ends);
    expect(await credit(referrer)).toEqual({ creditUntil: daysAfter(85), creditHeldAt: null });
    await onDay(60, pays);
    expect(await credit(referrer)).toEqual({ creditUntil: daysAfter(85), creditHeldAt: daysAfter(60) });
    await onDay(200, ends);
    expect(await credit(referrer)).toEqual({ creditUntil: daysAfter(225), creditHeldAt: null });
  });

  test('pays from day 0, grants on days 10 and 70, ends on day 100: credit until day 190', async () => {
    const { world, referrer, onDay, credit, grant } = await storyAtStripe(by);
    let subscription = '';
    await onDay(0, async () => (subscription = await subscribe(world, referrer)));
    await onDay(10, () => grant());
    await onDay(70, () => grant());
    expect(await credit(referrer)).toEqual({ creditUntil: daysAfter(160), creditHeldAt: daysAfter(70) });
    await onDay(100, () => world.merchant.subscriptions.cancel(subscription));
    expect(await credit(referrer)).toEqual({ creditUntil: daysAfter(190), creditHeldAt: null });
  });

  test('credit until day 30, pays from day 20 to 50: credit until day 60', async () => {
    const { world, referrer, onDay, credit, grant } = await storyAtStripe(by);
    let subscription = '';
    await onDay(0, () => grant(30));
    await onDay(20, async () => (subscription = await subscribe(world, referrer)));
    expect(await credit(referrer)).toEqual({ creditUntil: daysAfter(30), creditHeldAt: daysAfter(20) });
    await onDay(50, () => world.merchant.subscriptions.cancel(subscription));
    expect(await credit(referrer)).toEqual({ creditUntil: daysAfter(60), creditHeldAt: null });
  });

  test('the buyer, granted 45 days on day 0 while paying and refunded on day 20, loses 45; a free referrer loses 25', async () => {
    const { world, referrer, onDay, credit } = await storyAtStripe(by);
    const buyer = await signUp(world, 'buyer@example.com', referrer.code);
    let subscription = '';
    await onDay(0, async () => (subscription = await subscribe(world, buyer)));
    expect(await credit(buyer)).toEqual({ creditUntil: daysAfter(45), creditHeldAt: daysAfter(0) });
    await onDay(20, () => world.merchant.refunds.create({ payment_intent: paymentOf(world, subscription) }));
    expect(await credit(buyer)).toEqual({ creditUntil: daysAfter(20), creditHeldAt: daysAfter(20) });
    expect(await credit(referrer)).toEqual({ creditUntil: daysAfter(20), creditHeldAt: null });
  });

  test('free, grants A on day 0 and B on day 5; A reversed on day 20, its dispute won on day 80: credit until day 90, then 65, then 105', async () => {
    const { world, referrer, onDay, credit } = await storyAtStripe(by);
    const [a, b] = [
      await signUp(world, 'a@example.com', referrer.code),
      await signUp(world, 'b@example.com', referrer.code),
    ];
    let subscription = '';
    let dispute = '';
    await onDay(0, async () => (subscription = await subscribe(world, a)));
    await onDay(5, () => subscribe(world, b));
    expect(await credit(referrer)).toMatchObject({ creditUntil: daysAfter(90) });
    await onDay(6, () => (dispute = world.sandbox.acts.openDispute(paymentOf(world, subscription))));
    await onDay(20, () => {
      world.sandbox.acts.closeDispute(dispute, 'lost');
    });
    expect(await credit(referrer)).toMatchObject({ creditUntil: daysAfter(65) });
    await onDay(80, () => {
      world.sandbox.acts.closeDispute(dispute, 'won');
    });
    expect(await credit(referrer)).toMatchObject({ creditUntil: daysAfter(105) });
    expect(await credit(b)).toEqual({ creditUntil: daysAfter(50), creditHeldAt: daysAfter(5) });
  });

  test('of two subscriptions, ended on day 20 and day 60, credit runs from day 60', async () => {
    const { world, referrer, onDay, credit, buys, grant } = await storyAtStripe(by);
    let [first, second] = ['', ''];
    await onDay(0, async () => {
      first = await subscribe(world, referrer);
      second = await buys(referrer);
    });
    await onDay(1, () => grant());
    world.clock.now = daysAfter(20);
    await world.merchant.subscriptions.cancel(first);
    world.clock.now = daysAfter(60);
    await world.merchant.subscriptions.cancel(second);
    // The later end arrives first.
    const ends = world.sandbox.webhooks.waiting().reverse();
    if (by === 'webhooks') for (const id of ends) expect(await world.sandbox.webhooks.send(id)).toBe(200);
    // Too long ago for Stripe's event list.
    await onDay(by === 'webhooks' ? 61 : 100, () => undefined);
    expect(await credit(referrer)).toEqual({ creditUntil: daysAfter(105), creditHeldAt: null });
  });
});

describe('how days add up', () => {
  test('pays from 0, grant at 10, cancels at 40: until 85', async () => {
    const { pays, granted, ends, credit } = await story();
    await pays(0);
    await granted(10);
    expect(await credit()).toEqual({ creditUntil: daysAfter(55), creditHeldAt: daysAfter(10) });
    await ends(40);
    expect(await credit()).toEqual({ creditUntil: daysAfter(85), creditHeldAt: null });
  });

  test('pays from day 0, grants on days 10 and 70, ends on day 100: credit until day 190, nothing lost', async () => {
    const { pays, granted, ends, credit } = await story();
    await pays(0);
    await granted(10);
    await granted(70);
    expect(await credit()).toEqual({ creditUntil: daysAfter(160), creditHeldAt: daysAfter(70) });
    await ends(100);
    expect(await credit()).toEqual({ creditUntil: daysAfter(190), creditHeldAt: null });
  });

  test('pays again from day 60 to 200 after cancelling on day 40: credit until day 225', async () => {
    const { pays, granted, ends, credit } = await story();
    await pays(0);
    await granted(10);
    await ends(40);
    await pays(60);
    expect(await credit()).toEqual({ creditUntil: daysAfter(85), creditHeldAt: daysAfter(60) });
    await ends(200);
    expect(await credit()).toEqual({ creditUntil: daysAfter(225), creditHeldAt: null });
  });

  test('credit until day 30, pays from day 20 to 50: held days are added, until day 60', async () => {
    const { pays, granted, ends, credit } = await story();
    await granted(0, 30);
    await pays(20);
    expect(await credit()).toEqual({ creditUntil: daysAfter(30), creditHeldAt: daysAfter(20) });
    await ends(50);
    expect(await credit()).toEqual({ creditUntil: daysAfter(60), creditHeldAt: null });
  });
});

describe('when the paid time ended', () => {
  test('credit runs from the end of the paid time, not from when we heard of it', async () => {
    const { pays, granted, ends, credit } = await story();
    await pays(0);
    await granted(10);
    await ends(40, 43);
    expect(await credit()).toEqual({ creditUntil: daysAfter(85), creditHeldAt: null });
  });

  test('an end earlier than the last ledger entry counts from that entry', async () => {
    const { pays, granted, ends, credit } = await story();
    await pays(0);
    await granted(10);
    await ends(5, 12);
    expect(await credit()).toEqual({ creditUntil: daysAfter(55), creditHeldAt: null });
  });

  test('an end in the future counts from now', async () => {
    const { pays, granted, ends, credit } = await story();
    await pays(0);
    await granted(10);
    await ends(50, 40);
    expect(await credit()).toEqual({ creditUntil: daysAfter(85), creditHeldAt: null });
  });
});

test('a grant dated before the last ledger entry counts from that entry', async () => {
  const { granted, credit } = await story();
  await granted(10);
  await granted(9);
  expect(await credit()).toEqual({ creditUntil: daysAfter(100), creditHeldAt: null });
});
