import { describe, expect, inject, test } from 'vitest';

import { openDatabase } from '../src/db/open.ts';
import { eventContextOf, handleEvent } from '../src/stripe/handle-event.ts';
import type { EventOutcome } from '../src/stripe/handle-event.ts';
import type { Inbox } from '../src/stripe/inbox.ts';
import { readEvent } from '../src/stripe/objects/event.ts';
import { findings } from './support/findings.ts';
import { handleTogether } from './support/handle-together.ts';
import { refuseWrites } from './support/other-connection.ts';
import { permutations } from './support/permutations.ts';
import { daysAfter, deliverAll, signUp, START, startTestServer, userRow } from './support/server.ts';
import type { Person, TestServer } from './support/server.ts';
import { buyer, epoch, stripeId } from './support/stripe-events.ts';
import type { Buyer } from './support/stripe-events.ts';

type Handled = EventOutcome['status'] | 'failed';

/** Delivers events that all arrive at once, so that they are handled in one batch. */
function inbox({ db, stripe, config, clock }: Pick<TestServer, 'db' | 'stripe' | 'config' | 'clock'>) {
  const context = eventContextOf({ db, stripe, config });
  return (events: readonly object[]): Promise<Handled[]> =>
    Promise.all(
      handleTogether(context, events, clock.now).map((handled) =>
        handled.then(
          ({ status }) => status,
          () => 'failed' as const,
        ),
      ),
    );
}

/** Friends of one referrer, each linked by a completed checkout. */
async function friends(count: number) {
  const server = await startTestServer();
  const referrer = await signUp(server, 'referrer@example.com');
  const people: { person: Person; stripe: Buyer }[] = [];
  for (let n = 0; n < count; n += 1) {
    const person = await signUp(server, `friend${n}@example.com`, referrer.code);
    const stripe = buyer(person.id);
    people.push({ person, stripe });
    await deliverAll(server, [stripe.checkoutCompleted()]);
  }
  return { server, referrer, people, handle: inbox(server) };
}

describe('events handled in one batch', () => {
  test('of the accounts of one person, one converts a referral', async () => {
    const { server, referrer, people, handle } = await friends(6);
    const users = await Promise.all(
      people.map(({ person }) => server.db.user.findUniqueOrThrow({ where: { id: person.id } })),
    );
    const [first] = users;
    // The first has had the addresses of all the others.
    await server.db.formerAddress.createMany({
      data: users.slice(1).map(({ emailHash }) => ({ userId: first?.id ?? '', emailHash })),
    });
    const events = [buyer().created(), ...people.map(({ stripe }) => stripe.created())];
    expect(await handle(events)).toEqual(events.map(() => 'ok'));
    expect(await server.db.referral.count({ where: { convertedAt: { not: null } } })).toBe(1);
    expect(await userRow(server, referrer.id)).toMatchObject({ creditUntil: daysAfter(45) });
    expect(await findings(server)).toEqual([]);
  });

  test('of the trials of one address, one is given', async () => {
    const server = await startTestServer();
    const people: Person[] = [];
    for (let n = 0; n < 6; n += 1) people.push(await signUp(server, `many+${n}@example.com`));
    const purchases = people.map(({ id }) => buyer(id));
    await deliverAll(
      server,
      purchases.map((stripe) => stripe.checkoutCompleted()),
    );
    const trial = { status: 'trialing', trial_end: epoch(daysAfter(7)) };
    // The first event has a batch of its own.
    const events = [buyer().created(), ...purchases.map((stripe) => stripe.created(trial))];
    expect(await inbox(server)(events)).toEqual(events.map(() => 'ok'));
    const tiers = await Promise.all(people.map(async ({ id }) => (await userRow(server, id)).tier));
    expect(tiers.toSorted()).toEqual(['free', 'free', 'free', 'free', 'free', 'trial']);
    expect(await findings(server)).toEqual([]);
  });

  test('many changes of one subscription in one second follow one another', async () => {
    const server = await startTestServer();
    const stripe = buyer();
    const end = (n: number) => ({ cancel_at: epoch(daysAfter(n)) });
    const changes = Array.from({ length: 8 }, (_, n) => stripe.updated(end(n + 1), { previous: end(n) }));
    // The first event has a batch of its own.
    const events = [buyer().created(), stripe.created(end(0)), ...changes];
    expect(await inbox(server)(events)).toEqual(events.map(() => 'ok'));
    expect(await server.db.subscription.findUnique({ where: { id: stripe.subscription } })).toMatchObject({
      cancelAt: daysAfter(8),
    });
  });

  test('an event that fails leaves its failed row, and the rest of the batch is applied', async () => {
    const { server, referrer, people, handle } = await friends(12);
    const events = people.map(({ stripe }) => stripe.created());
    const broken = buyer().created({ items: 'no list' });
    const outcomes = await handle([...events.slice(0, 6), broken, ...events.slice(6)]);
    expect(outcomes.filter((outcome) => outcome === 'ok')).toHaveLength(12);
    expect(outcomes[6]).toBe('failed');
    expect(await server.db.event.count({ where: { status: 'failed' } })).toBe(1);
    expect(await userRow(server, referrer.id)).toMatchObject({ creditUntil: daysAfter(12 * 45) });
    expect(await findings(server)).toEqual([]);
  });

  test('an event that the database refuses leaves its failed row, and the rest are applied, because each is then tried alone', async () => {
    const { server, referrer, people, handle } = await friends(5);
    const refused = people[2]?.person.id ?? '';
    const refusal = await refuseWrites(server, 'UPDATE', 'User', `NEW."id" = '${refused}'`);
    const events = people.map(({ stripe }) => stripe.created());
    expect(await handle(events)).toEqual(['ok', 'ok', 'failed', 'ok', 'ok']);
    await refusal.lift();
    expect(await userRow(server, referrer.id)).toMatchObject({ creditUntil: daysAfter(4 * 45) });
    server.clock.now = daysAfter(1);
    expect(await handle(events)).toEqual(['duplicate', 'duplicate', 'ok', 'duplicate', 'duplicate']);
    // The time of receipt differs from the time of application.
    expect(await server.db.event.findUnique({ where: { id: events[2]?.id ?? '' } })).toMatchObject({
      receivedAt: daysAfter(0),
      appliedAt: daysAfter(1),
    });
    expect(await userRow(server, referrer.id)).toMatchObject({ creditUntil: daysAfter(5 * 45) });
    expect(await findings(server)).toEqual([]);
  });

  test('an event whose rule throws leaves its failed row, and the rest of the batch is applied', async () => {
    const { server, people, handle } = await friends(4);
    const [broken, ...others] = people;
    if (!broken) throw new Error('There is no broken event.');
    const { person, stripe } = broken;
    await deliverAll(server, [
      stripe.created(),
      stripe.invoicePaid(),
      stripe.invoicePaymentPaid(),
      stripe.chargeRefunded(),
    ]);
    // A damaged ledger: this person's days were never taken, so they cannot be returned.
    const { db } = server;
    await db.creditEntry.deleteMany({ where: { userId: person.id, kind: 'reversal' } });
    const refundFailed = stripe.refundFailed({}, { at: daysAfter(1) });
    const events = others.map((other) => other.stripe.created());
    expect(await handle([...events.slice(0, 1), refundFailed, ...events.slice(1)])).toEqual([
      'ok',
      'failed',
      'ok',
      'ok',
    ]);
    const failed = await db.event.findUniqueOrThrow({ where: { id: refundFailed.id } });
    expect(failed).toMatchObject({ status: 'failed', appliedAt: null });
    expect(failed.error).toContain('was never reversed');
    expect(await db.payment.count({ where: { refundFailedAt: { not: null } } })).toBe(0);
    expect(await db.referral.count({ where: { convertedAt: { not: null }, reversedAt: null } })).toBe(3);
  });

  test('an event whose row exists already leaves its failed row, and the rest of the batch is applied', async () => {
    const { server, people, handle } = await friends(4);
    const [broken, ...others] = people;
    if (!broken) throw new Error('There is no broken event.');
    const { person, stripe } = broken;
    await deliverAll(server, [stripe.created(), stripe.invoicePaid(), stripe.invoicePaymentPaid()]);
    // A damaged ledger: the next entry gets a number that is taken.
    const { db } = server;
    const newest = await db.creditEntry.findFirstOrThrow({
      where: { userId: person.id },
      orderBy: { seq: 'desc' },
    });
    await db.creditEntry.create({ data: { ...newest, seq: newest.seq + 1, causeId: 'nothing' } });
    const refunded = stripe.chargeRefunded();
    const events = others.map((other) => other.stripe.created());
    expect(await handle([...events, refunded])).toEqual(['ok', 'ok', 'ok', 'failed']);
    const failed = await db.event.findUniqueOrThrow({ where: { id: refunded.id } });
    expect(failed).toMatchObject({ status: 'failed', appliedAt: null });
    expect(failed.error).toMatch(/unique/i);
    expect(await db.referral.count({ where: { convertedAt: { not: null }, reversedAt: null } })).toBe(4);
  });

  test('large events that do not fit into one transaction are all applied', async () => {
    const { server, people, handle } = await friends(6);
    const metadata = { note: 'x'.repeat(900_000) };
    const outcomes = await handle(people.map(({ stripe }) => stripe.created({ metadata })));
    expect(outcomes).toEqual(people.map(() => 'ok'));
    expect(await findings(server)).toEqual([]);
  });

  test('several events of one account in a batch, one of them twice, are each applied once', async () => {
    const { server, referrer, people, handle } = await friends(1);
    const [friend] = people;
    if (!friend) throw new Error('There is no friend.');
    const { stripe, person } = friend;
    const created = stripe.created();
    const outcomes = await handle([created, stripe.invoicePaid(), created, stripe.invoicePaymentPaid()]);
    expect(outcomes).toEqual(['ok', 'ok', 'duplicate', 'ok']);
    expect(await userRow(server, person.id)).toMatchObject({ tier: 'paid', creditUntil: daysAfter(45) });
    expect(await userRow(server, referrer.id)).toMatchObject({ creditUntil: daysAfter(45) });
    expect(await findings(server)).toEqual([]);
  });

  test('a conversion and its refund in one batch leave nobody any credit, in whatever order', async () => {
    const orders = permutations(['created', 'invoicePaid', 'invoicePaymentPaid', 'chargeRefunded'] as const);
    const { server, referrer, people, handle } = await friends(orders.length);
    for (const [index, order] of orders.entries()) {
      const { stripe, person } = people[index] ?? {};
      if (!stripe || !person) throw new Error('There is no friend for this order.');
      // The first event has a batch of its own.
      const outcomes = await handle([buyer().created(), ...order.map((name) => stripe[name]())]);
      expect(outcomes, order.join(', ')).toEqual(['ok', 'ok', 'ok', 'ok', 'ok']);
      expect(
        await server.db.referral.findUnique({ where: { referredId: person.id } }),
        order.join(', '),
      ).toMatchObject({ convertedAt: START, reversedAt: START });
      for (const { id } of [person, referrer]) {
        expect(await userRow(server, id), order.join(', ')).toMatchObject({ creditUntil: START });
      }
    }
    expect(await findings(server)).toEqual([]);
  });

  test('a tie in a batch, where Stripe cannot be asked: the last update holds, the row is marked, and the others are applied', async () => {
    const { server, people, handle } = await friends(3);
    const [tied, ...others] = people;
    if (!tied) throw new Error('There is no tied event.');
    await deliverAll(server, [tied.stripe.created({}, { at: daysAfter(-1) })]);
    await deliverAll(server, [
      tied.stripe.updated({ status: 'past_due' }, { previous: { status: 'unpaid' } }),
    ]);
    const tie = tied.stripe.updated({ status: 'active' }, { previous: { status: 'incomplete' } });
    const events = others.map(({ stripe }) => stripe.created());
    expect(await handle([...events.slice(0, 1), tie, ...events.slice(1)])).toEqual(['ok', 'ok', 'ok']);
    const marked = await server.db.subscription.findMany({ where: { needsReconcile: true } });
    expect(marked).toMatchObject([{ id: tied.stripe.subscription, status: 'active' }]);
    for (const { person } of others) {
      expect(await userRow(server, person.id)).toMatchObject({ tier: 'paid', creditUntil: daysAfter(45) });
    }
  });

  test('a tie twice in a batch, where Stripe was asked for one of them: that one is applied', async () => {
    const { server, people } = await friends(1);
    const stripe = people[0]?.stripe ?? buyer();
    await deliverAll(server, [
      stripe.created({}, { at: daysAfter(-1) }),
      stripe.updated({ status: 'past_due' }, { previous: { status: 'unpaid' } }),
    ]);
    const tie = stripe.updated({ status: 'active' }, { previous: { status: 'incomplete' } });
    const event = readEvent(tie, server.clock.now);
    if (!event) throw new Error('This is not an event.');
    const context = eventContextOf(server);
    const asked: Parameters<Inbox>[0][] = [];
    const record: Inbox = (waiting) => {
      asked.push(waiting);
      throw new Error('Only recorded, for this test.');
    };
    const first = handleEvent({ ...context, inbox: record }, event, JSON.stringify(tie), server.clock.now);
    await expect(first).rejects.toThrow('Only recorded');
    const [undecided] = asked;
    if (!undecided) throw new Error('The event did not reach the inbox.');
    const [, outcome] = await Promise.all([
      context.inbox(undecided),
      context.inbox({ ...undecided, tieBreaker: 'unavailable' }),
    ]);
    expect(outcome).toEqual({ status: 'ok' });
  });

  test('a batch of buyers who invited one another in a chain converts each referral', async () => {
    const server = await startTestServer();
    const people: Person[] = [];
    for (let n = 0; n < 8; n += 1)
      people.push(await signUp(server, `person${n}@example.com`, people.at(-1)?.code));
    const purchases = people.map(({ id }) => buyer(id));
    const handle = inbox(server);
    await handle(purchases.map((purchase) => purchase.checkoutCompleted()));
    await handle(purchases.map((purchase) => purchase.created()));
    for (const [n, { id }] of people.entries()) {
      const days = 45 * (Number(n > 0) + Number(n < 7));
      expect(await userRow(server, id)).toMatchObject({ tier: 'paid', creditUntil: daysAfter(days) });
    }
    expect(await findings(server)).toEqual([]);
  });

  test.runIf(inject('engine') === 'postgresql')(
    'the same events in opposite order on two servers are each applied once',
    async () => {
      const { server, referrer, people, handle } = await friends(20);
      const { db } = await openDatabase(server.databaseUrl);
      const other = inbox({ ...server, db });
      const events = people.map(({ stripe }) => stripe.created());
      const both = await Promise.all([handle(events), other(events.toReversed())]);
      await db.$disconnect();
      const applied = both.flat().filter((outcome) => outcome === 'ok');
      expect(applied).toHaveLength(20);
      expect(new Set(both.flat())).toEqual(new Set(['ok', 'duplicate']));
      expect(await userRow(server, referrer.id)).toMatchObject({ creditUntil: daysAfter(20 * 45) });
      expect(await findings(server)).toEqual([]);
    },
  );
});

test('an ignored event about an unknown payment leaves no empty row', async () => {
  const server = await startTestServer();
  const handle = inbox(server);
  const partial = buyer().chargeRefunded({ id: stripeId('ch'), refunded: false });
  expect(await handle([partial, buyer('order-1').checkoutCompleted()])).toEqual(['ignored', 'ignored']);
  expect(await server.db.payment.count()).toBe(0);
  expect(await server.db.customer.count()).toBe(0);
});
