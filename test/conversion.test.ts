import { describe, expect, test } from 'vitest';

import { inTransaction } from '../src/db/transaction.ts';
import { inUnit } from '../src/db/unit-of-work.ts';
import { programmeOf } from '../src/programme.ts';
import { convertReferral } from '../src/referrals/convert.ts';
import { invitedFriend } from './support/invited-friend.ts';
import {
  DAY,
  daysAfter,
  deliver,
  deliverAll,
  makeTombstone,
  signUp,
  START,
  startTestServer,
  userRow,
} from './support/server.ts';
import type { Person, TestServer } from './support/server.ts';
import { buyer, epoch, stripeEvent, stripeId } from './support/stripe-events.ts';

function convert(server: TestServer, person: Person) {
  return inTransaction(server.db, server.clock.now, (tx) =>
    inUnit(tx, programmeOf(server.config), { users: [person.id] }, (unit) => {
      const user = unit.rows.users.get(person.id);
      if (!user) throw new Error('no such user');
      return convertReferral(unit, user);
    }),
  );
}

describe('a referred user pays', () => {
  test('the first conversion credits both with 45 days', async () => {
    const server = await startTestServer();
    const { referrer, friend, stripe } = await invitedFriend(server);

    await deliverAll(server, [stripe.checkoutCompleted(), stripe.created()]);

    const referral = await server.db.referral.findUniqueOrThrow({ where: { referredId: friend.id } });
    expect(referral).toMatchObject({
      referrerId: referrer.id,
      convertedAt: START,
      creditedAt: START,
      reversedAt: null,
    });
    expect(await userRow(server, friend.id)).toMatchObject({
      tier: 'paid',
      creditUntil: daysAfter(45),
      creditHeldAt: START,
    });
    expect(await userRow(server, referrer.id)).toMatchObject({
      tier: 'free',
      creditUntil: daysAfter(45),
      creditHeldAt: null,
    });
  });

  test('the change of tier and both credits are in the audit, with their cause', async () => {
    const server = await startTestServer();
    const { referrer, friend, stripe } = await invitedFriend(server);
    const created = stripe.created();
    await deliverAll(server, [stripe.checkoutCompleted(), created]);

    const rows = await server.db.auditRow.findMany({ orderBy: { kind: 'desc' } });
    const referral = await server.db.referral.findUniqueOrThrow({ where: { referredId: friend.id } });
    expect(rows).toHaveLength(3);
    expect(rows).toMatchObject([
      {
        userId: friend.id,
        kind: 'tier',
        fromTier: 'free',
        toTier: 'paid',
        causeId: created.id,
        actor: 'stripe',
      },
      { kind: 'credit', seconds: 45 * DAY, causeId: referral.id },
      { kind: 'credit', seconds: 45 * DAY, causeId: referral.id },
    ]);
    expect(new Set(rows.slice(1).map((row) => row.userId))).toEqual(new Set([friend.id, referrer.id]));
  });

  test('convertReferral called again returns the referral unchanged', async () => {
    const server = await startTestServer();
    const { referrer, friend } = await invitedFriend(server);
    const first = await convert(server, friend);
    server.clock.now = daysAfter(3);
    const second = await convert(server, friend);

    expect(first?.convertedAt).toEqual(START);
    expect(second).toEqual(first);
    expect(await userRow(server, friend.id)).toMatchObject({ creditUntil: daysAfter(45) });
    expect(await userRow(server, referrer.id)).toMatchObject({ creditUntil: daysAfter(45) });
  });

  test("a buyer without a referral converts nothing and changes nobody's credit", async () => {
    const server = await startTestServer();
    const loner = await signUp(server, 'loner@example.com');
    const before = await userRow(server, loner.id);

    expect(await convert(server, loner)).toBeNull();
    expect(await userRow(server, loner.id)).toEqual(before);
    expect(await server.db.creditEntry.count()).toBe(0);
    expect(await server.db.auditRow.count()).toBe(0);
  });

  test('existing credit is extended from its end', async () => {
    const server = await startTestServer();
    const { referrer, stripe } = await invitedFriend(server);
    const other = await signUp(server, 'other@example.com', referrer.code);
    const otherStripe = buyer(other.id);

    await deliverAll(server, [stripe.checkoutCompleted(), stripe.created()]);
    server.clock.now = daysAfter(10);
    await deliverAll(server, [otherStripe.checkoutCompleted(), otherStripe.created()]);
    expect(await userRow(server, referrer.id)).toMatchObject({ creditUntil: daysAfter(90) });
  });

  test('credit that has run out does not count: the grant starts now', async () => {
    const server = await startTestServer();
    const { referrer, stripe } = await invitedFriend(server);
    const other = await signUp(server, 'other@example.com', referrer.code);
    const otherStripe = buyer(other.id);

    await deliverAll(server, [stripe.checkoutCompleted(), stripe.created()]);
    server.clock.now = daysAfter(100);
    await deliverAll(server, [otherStripe.checkoutCompleted(), otherStripe.created()]);
    expect(await userRow(server, referrer.id)).toMatchObject({ creditUntil: daysAfter(145) });
  });

  test('a missing referrer is skipped: the buyer is credited all the same', async () => {
    const server = await startTestServer();
    const { referrer, friend, stripe } = await invitedFriend(server);
    await server.db.user.delete({ where: { id: referrer.id } });
    expect(await server.db.referral.findUnique({ where: { referredId: friend.id } })).toMatchObject({
      referrerId: null,
    });

    await deliverAll(server, [stripe.checkoutCompleted(), stripe.created()]);
    expect(await userRow(server, friend.id)).toMatchObject({ tier: 'paid', creditUntil: daysAfter(45) });
    expect(await server.db.creditEntry.count({ where: { kind: 'grant' } })).toBe(1);
  });

  test('a tombstone gets nothing: the buyer is credited all the same', async () => {
    const server = await startTestServer();
    const { referrer, friend, stripe } = await invitedFriend(server);
    await makeTombstone(server, referrer);

    await deliverAll(server, [stripe.checkoutCompleted(), stripe.created()]);
    expect(await userRow(server, friend.id)).toMatchObject({ creditUntil: daysAfter(45) });
    expect(await userRow(server, referrer.id)).toMatchObject({ creditUntil: null });
  });

  test('a renewal credits nobody again', async () => {
    const server = await startTestServer();
    const { referrer, friend, stripe } = await invitedFriend(server);
    await deliverAll(server, [stripe.checkoutCompleted(), stripe.created(), stripe.invoicePaid()]);

    server.clock.now = daysAfter(31);
    const nextPeriod = {
      price: { id: 'price_m', unit_amount: 900 },
      current_period_end: epoch(daysAfter(62)),
    };
    const renewal = { id: stripeId('in'), billing_reason: 'subscription_cycle' };
    await deliverAll(server, [
      stripe.updated({ items: { data: [nextPeriod] } }, { at: daysAfter(31) }),
      stripe.invoicePaid(renewal, { at: daysAfter(31) }),
    ]);
    expect(await server.db.subscription.findFirst()).toMatchObject({ currentPeriodEnd: daysAfter(62) });
    expect(await userRow(server, referrer.id)).toMatchObject({ creditUntil: daysAfter(45) });
    expect(await userRow(server, friend.id)).toMatchObject({
      creditUntil: daysAfter(45),
      creditHeldAt: START,
    });
    expect(await server.db.creditEntry.count({ where: { kind: 'grant' } })).toBe(2);
  });

  test('somebody who cancels and comes back does not convert again', async () => {
    const server = await startTestServer();
    const { referrer, friend, stripe } = await invitedFriend(server);
    await deliverAll(server, [stripe.checkoutCompleted(), stripe.created()]);
    server.clock.now = daysAfter(40);
    await deliverAll(server, [stripe.ended(daysAfter(40))]);
    expect(await userRow(server, friend.id)).toMatchObject({ tier: 'free', creditUntil: daysAfter(85) });

    server.clock.now = daysAfter(60);
    const again = buyer(friend.id);
    await deliverAll(server, [again.checkoutCompleted(), again.created({}, { at: daysAfter(60) })]);
    expect(await userRow(server, friend.id)).toMatchObject({ tier: 'paid', creditUntil: daysAfter(85) });
    expect(await userRow(server, referrer.id)).toMatchObject({ creditUntil: daysAfter(45) });
  });

  test('metadata on the checkout session also links the customer', async () => {
    const server = await startTestServer();
    const { friend, stripe } = await invitedFriend(server);
    const metadata = { userId: friend.id };
    await deliverAll(server, [
      stripe.created(),
      stripe.checkoutCompleted({ client_reference_id: null, metadata }),
    ]);
    expect(await userRow(server, friend.id)).toMatchObject({ tier: 'paid', creditUntil: daysAfter(45) });
  });
});

describe('concurrent conversions', () => {
  test('one event delivered 20 times at once is applied once', async () => {
    const server = await startTestServer();
    const { referrer, friend, stripe } = await invitedFriend(server);
    await deliverAll(server, [stripe.checkoutCompleted()]);
    const event = stripe.created();

    const answers = await Promise.all(Array.from({ length: 20 }, () => deliver(server, event)));
    const statuses = answers.map((answer) => answer.json<{ status: string }>().status).sort();
    expect(statuses).toEqual([...Array<string>(19).fill('duplicate'), 'ok']);
    expect(await userRow(server, friend.id)).toMatchObject({ creditUntil: daysAfter(45) });
    expect(await userRow(server, referrer.id)).toMatchObject({ creditUntil: daysAfter(45) });
  });

  test('20 buyers with one referrer add up exactly', async () => {
    const server = await startTestServer();
    const referrer = await signUp(server, 'referrer@example.com');
    const friends = await Promise.all(
      Array.from({ length: 20 }, (_, n) => signUp(server, `friend${n}@example.com`, referrer.code)),
    );
    const events = friends.flatMap((friend) => {
      const stripe = buyer(friend.id);
      return [stripe.created(), stripe.checkoutCompleted(), stripe.invoicePaid()];
    });
    const answers = await Promise.all(events.map((event) => deliver(server, event)));
    expect(answers.every((answer) => answer.statusCode === 200)).toBe(true);
    expect(await userRow(server, referrer.id)).toMatchObject({ creditUntil: daysAfter(20 * 45) });
    for (const friend of friends) {
      expect(await userRow(server, friend.id)).toMatchObject({ tier: 'paid', creditUntil: daysAfter(45) });
    }
  });
});

describe('linking a customer to a user', () => {
  test('a customer who is already linked is not linked to another user', async () => {
    const server = await startTestServer();
    const { friend, stripe } = await invitedFriend(server);
    const thief = await signUp(server, 'thief@example.com');
    await deliverAll(server, [stripe.checkoutCompleted(), stripe.created()]);
    const second = await deliver(server, stripe.checkoutCompleted({ client_reference_id: thief.id }));
    expect(second.json()).toEqual({ status: 'ignored', reason: 'the customer belongs to another user' });
    expect(await userRow(server, thief.id)).toMatchObject({ tier: 'free' });
    expect(await userRow(server, friend.id)).toMatchObject({ tier: 'paid' });
  });

  test('a reference to none of our users is ignored and leaves no customer behind', async () => {
    const server = await startTestServer();
    const answer = await deliver(server, buyer('order-1234').checkoutCompleted());
    expect(answer.json()).toMatchObject({ status: 'ignored' });
    expect(await server.db.customer.count()).toBe(0);
  });

  test('metadata on the subscription never links the customer', async () => {
    const server = await startTestServer();
    const { friend, stripe } = await invitedFriend(server);
    await deliverAll(server, [stripe.created({ metadata: { userId: friend.id } })]);
    expect(await userRow(server, friend.id)).toMatchObject({ tier: 'free' });
  });

  test('the subscriptions of a customer deleted at Stripe end for good, including those heard of later', async () => {
    const server = await startTestServer();
    const { friend, stripe } = await invitedFriend(server);
    await deliverAll(server, [stripe.checkoutCompleted(), stripe.created()]);
    server.clock.now = daysAfter(10);
    await deliverAll(server, [stripe.customerDeleted({ at: daysAfter(10) })]);
    expect(await userRow(server, friend.id)).toMatchObject({ tier: 'free', creditUntil: daysAfter(55) });

    const late = stripe.subscriptionObject({ id: stripeId('sub') });
    await deliverAll(server, [stripeEvent('customer.subscription.created', late, { at: daysAfter(11) })]);
    expect(await userRow(server, friend.id)).toMatchObject({ tier: 'free' });
    expect(await server.db.customer.findUnique({ where: { id: stripe.customer } })).toMatchObject({
      userId: friend.id,
    });
  });

  test('when a user has two customers, the best subscription gives the tier', async () => {
    const server = await startTestServer();
    const { friend, stripe } = await invitedFriend(server);
    const second = buyer(friend.id);
    await deliverAll(server, [
      stripe.checkoutCompleted(),
      stripe.created(),
      second.checkoutCompleted(),
      second.created({ status: 'unpaid' }),
    ]);
    expect(await userRow(server, friend.id)).toMatchObject({ tier: 'paid' });
    await deliverAll(server, [stripe.ended(START)]);
    expect(await userRow(server, friend.id)).toMatchObject({ tier: 'free' });
  });
});
