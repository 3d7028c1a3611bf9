import { describe, expect, test } from 'vitest';

import { doctor } from '../src/commands/doctor.ts';
import { commandContext } from './support/command-context.ts';
import {
  cookiesOf,
  daysAfter,
  deliver,
  deliverAll,
  postForm,
  PASSWORD,
  signUp,
  START,
  startTestServer,
  userRow,
} from './support/server.ts';
import type { Person, TestServer } from './support/server.ts';
import { refuseWrites } from './support/other-connection.ts';
import { holdBefore, SIDE_BY_SIDE } from './support/race-point.ts';
import { buyer } from './support/stripe-events.ts';

/** Two servers on one database, and a friend with a referrer. */
async function twoServers() {
  const one = await startTestServer();
  const other = await startTestServer({ DATABASE_URL: one.databaseUrl }, one.clock);
  const referrer = await signUp(one, 'referrer@example.com');
  const friend = await signUp(one, 'friend@example.com', referrer.code);
  return { one, other, referrer, friend, stripe: buyer(friend.id) };
}

type Point = [write: string, table: string, when?: string];

/**
 * Begins something, holds it before a write, begins something else on the other server until that waits for the first
 * one's lock, and lets both go. On SQLite they are only begun at once: there one waits for the other's end.
 *
 * @returns the status of both answers
 */
async function race(
  server: TestServer,
  held: () => Promise<{ statusCode: number }>,
  point: Point,
  meanwhile: () => Promise<{ statusCode: number }>,
): Promise<number[]> {
  const answers: Promise<{ statusCode: number }>[] = [];
  if (SIDE_BY_SIDE) {
    const { arrived, blocked, open } = await holdBefore(server, ...point);
    answers.push(held());
    await arrived();
    answers.push(meanwhile());
    await blocked();
    await open();
  } else {
    answers.push(held(), meanwhile());
  }
  return (await Promise.all(answers)).map(({ statusCode }) => statusCode);
}

/** Two events race; both are taken. */
async function raceOfEvents(
  { one, other }: { one: TestServer; other: TestServer },
  held: object,
  point: Point,
  meanwhile: object,
): Promise<void> {
  const answers = await race(
    one,
    () => deliver(one, held),
    point,
    () => deliver(other, meanwhile),
  );
  expect(answers).toEqual([200, 200]);
}

describe('a customer is linked on one server while the other stores its subscription', () => {
  test('the link first', async () => {
    const { one, other, referrer, friend, stripe } = await twoServers();
    await raceOfEvents({ one, other }, stripe.checkoutCompleted(), ['UPDATE', 'Customer'], stripe.created());
    expect(await userRow(one, friend.id)).toMatchObject({ tier: 'paid', creditUntil: daysAfter(45) });
    expect(await userRow(one, referrer.id)).toMatchObject({ creditUntil: daysAfter(45) });
  });

  test('the subscription first', async () => {
    const { one, other, referrer, friend, stripe } = await twoServers();
    await raceOfEvents(
      { one, other },
      stripe.created(),
      ['UPDATE', 'Subscription'],
      stripe.checkoutCompleted(),
    );
    expect(await userRow(one, friend.id)).toMatchObject({ tier: 'paid', creditUntil: daysAfter(45) });
    expect(await userRow(one, referrer.id)).toMatchObject({ creditUntil: daysAfter(45) });
  });
});

test('two customers of one user are linked at once', async () => {
  const { one, other, friend, stripe } = await twoServers();
  const second = buyer(friend.id);
  await deliverAll(one, [second.created()]);
  const link = `NEW."id" = '${stripe.customer}'`;
  await raceOfEvents(
    { one, other },
    stripe.checkoutCompleted(),
    ['UPDATE', 'Customer', link],
    second.checkoutCompleted(),
  );
  expect(await one.db.customer.count({ where: { userId: friend.id } })).toBe(2);
  expect(await userRow(one, friend.id)).toMatchObject({ tier: 'paid', creditUntil: daysAfter(45) });
});

test('a zero first invoice meets the snapshot that is active', async () => {
  const { one, other, referrer, friend, stripe } = await twoServers();
  await deliverAll(one, [stripe.checkoutCompleted()]);
  const zero = stripe.invoicePaid({ amount_paid: 0 });
  await raceOfEvents({ one, other }, stripe.created(), ['UPDATE', 'Subscription'], zero);
  // Whichever came first: nothing proves a payment, and nobody has anything of it.
  expect(await userRow(one, friend.id)).toMatchObject({ tier: 'paid' });
  for (const { id } of [friend, referrer]) {
    const { creditUntil } = await userRow(one, id);
    expect(creditUntil?.getTime() ?? START.getTime()).toBe(START.getTime());
  }
});

test('a dispute that is lost meets the event that ties its payment to the invoice', async () => {
  const { one, other, referrer, friend, stripe } = await twoServers();
  await deliverAll(one, [stripe.checkoutCompleted(), stripe.created(), stripe.invoicePaid()]);
  const lost = stripe.dispute(START).lost(START);
  await raceOfEvents({ one, other }, stripe.invoicePaymentPaid(), ['UPDATE', 'Invoice'], lost);
  expect(await one.db.referral.findFirst()).toMatchObject({ reversedAt: START });
  for (const { id } of [friend, referrer])
    expect(await userRow(one, id)).toMatchObject({ creditUntil: START });
});

test('a reversal meets another conversion of the same referrer', async () => {
  const { one, other, referrer, friend, stripe } = await twoServers();
  const second = await signUp(one, 'second@example.com', referrer.code);
  const theirs = buyer(second.id);
  const first = [
    stripe.checkoutCompleted(),
    stripe.created(),
    stripe.invoicePaid(),
    stripe.invoicePaymentPaid(),
  ];
  await deliverAll(one, [...first, theirs.checkoutCompleted()]);
  const reversal = `NEW."kind" = 'reversal' AND NEW."userId" = '${referrer.id}'`;
  await raceOfEvents(
    { one, other },
    stripe.chargeRefunded(),
    ['INSERT', 'CreditEntry', reversal],
    theirs.created(),
  );
  expect(await userRow(one, friend.id)).toMatchObject({ creditUntil: START });
  expect(await userRow(one, referrer.id)).toMatchObject({ creditUntil: daysAfter(45) });
  expect(await userRow(one, second.id)).toMatchObject({ creditUntil: daysAfter(45) });
});

test('somebody converts while the friend whom they invited does', async () => {
  const { one, other, referrer, friend, stripe } = await twoServers();
  const third = await signUp(one, 'third@example.com', friend.code);
  const theirs = buyer(third.id);
  await deliverAll(one, [stripe.checkoutCompleted(), theirs.checkoutCompleted()]);
  await raceOfEvents(
    { one, other },
    stripe.created(),
    ['INSERT', 'CreditEntry', `NEW."kind" = 'grant'`],
    theirs.created(),
  );
  expect(await userRow(one, referrer.id)).toMatchObject({ creditUntil: daysAfter(45) });
  expect(await userRow(one, friend.id)).toMatchObject({ tier: 'paid', creditUntil: daysAfter(90) });
  expect(await userRow(one, third.id)).toMatchObject({ tier: 'paid', creditUntil: daysAfter(45) });
});

test.runIf(SIDE_BY_SIDE)(
  'a failure is recorded after the event was applied by the other server: it stays applied',
  async () => {
    const { one, other, friend, stripe } = await twoServers();
    const refusal = await refuseWrites(one, 'UPDATE', 'Customer');
    const { arrived, open } = await holdBefore(one, 'INSERT', 'Event', `NEW."status" = 'failed'`);
    const event = stripe.checkoutCompleted();
    const failed = deliver(one, event);
    await arrived();
    await refusal.lift();
    expect((await deliver(other, event)).json()).toEqual({ status: 'ok' });
    await open();
    expect((await failed).statusCode).toBe(500);
    expect(await one.db.event.findUnique({ where: { id: event.id } })).toMatchObject({
      status: 'applied',
      error: null,
    });
    await deliverAll(one, [stripe.created()]);
    expect(await userRow(one, friend.id)).toMatchObject({ tier: 'paid' });
  },
);

test('one person signs up twice at once, under two tags: a referral each', async () => {
  const { one, other, referrer } = await twoServers();
  const cookie = `tandem_ref=${referrer.code}`;
  const answers = await Promise.all(
    [one, other].map(({ app }, n) =>
      postForm(
        app,
        `/signup?ref=${referrer.code}`,
        { email: `a+${n}@example.com`, password: PASSWORD },
        cookie,
      ),
    ),
  );
  expect(answers.map(({ statusCode }) => statusCode)).toEqual([303, 303]);
  const accounts = await one.db.user.findMany({ where: { email: { startsWith: 'a+' } } });
  expect(accounts).toHaveLength(2);
  const ids = accounts.map(({ id }) => id);
  expect(await one.db.referral.count({ where: { referredId: { in: ids } } })).toBe(2);
});

test('the same event reaches both servers at the same moment: it is applied once', async () => {
  const { one, other, friend, stripe } = await twoServers();
  await deliverAll(one, [stripe.checkoutCompleted()]);
  const event = stripe.created();
  await raceOfEvents({ one, other }, event, ['INSERT', 'CreditEntry'], event);
  expect(await userRow(one, friend.id)).toMatchObject({ creditUntil: daysAfter(45) });
  expect(await one.db.auditRow.count({ where: { userId: friend.id, kind: 'tier' } })).toBe(1);
});

const deleteAccount = ({ app }: TestServer, { cookie }: Person) =>
  postForm(app, '/settings/delete', { currentPassword: PASSWORD }, cookie);

describe('an account is deleted while a checkout that names it completes', () => {
  test('the checkout first: it stays, for somebody has paid', async () => {
    const { one, other, friend, stripe } = await twoServers();
    await deliverAll(one, [stripe.created()]);
    const answers = await race(
      one,
      () => deliver(one, stripe.checkoutCompleted()),
      ['UPDATE', 'Customer', 'NEW."userId" IS NOT NULL'],
      () => deleteAccount(other, friend),
    );
    expect(answers).toEqual([200, 409]);
    expect(await userRow(one, friend.id)).toMatchObject({ tier: 'paid', deletedAt: null });
  });

  test.runIf(SIDE_BY_SIDE)('the deletion first: the customer is nobody’s', async () => {
    const { one, other, referrer, friend, stripe } = await twoServers();
    await deliverAll(one, [stripe.created()]);
    const event = stripe.checkoutCompleted();
    const answers = await race(
      one,
      () => deleteAccount(one, friend),
      ['UPDATE', 'User', 'NEW."deletedAt" IS NOT NULL'],
      () => deliver(other, event),
    );
    expect(answers).toEqual([303, 200]);
    expect(await one.db.customer.findFirst()).toMatchObject({ userId: null });
    expect(await one.db.event.findUnique({ where: { id: event.id } })).toMatchObject({
      status: 'ignored',
      reason: 'the checkout session names none of our users',
    });
    expect(await userRow(one, friend.id)).toMatchObject({ tier: 'free', creditUntil: null });
    expect(await userRow(one, referrer.id)).toMatchObject({ creditUntil: null });
  });
});

test('an account is deleted while somebody signs up with its code: they convert as if the friend were gone', async () => {
  const { one, other, referrer } = await twoServers();
  const visit = await other.app.inject({ url: `/r/${referrer.code}` });
  const form = { email: 'new@example.com', password: PASSWORD };
  const signingUp = (): Promise<{ statusCode: number }> =>
    postForm(other.app, '/signup', form, cookiesOf(visit));
  if (SIDE_BY_SIDE) {
    const { arrived, open } = await holdBefore(one, 'INSERT', 'Referral');
    const signedUp = signingUp();
    await arrived();
    expect((await deleteAccount(one, referrer)).statusCode).toBe(303);
    await open();
    expect((await signedUp).statusCode).toBe(303);
  } else {
    const answers = await Promise.all([signingUp(), deleteAccount(one, referrer)]);
    expect(answers.map(({ statusCode }) => statusCode)).toEqual([303, 303]);
  }
  const newcomer = await one.db.user.findUniqueOrThrow({ where: { email: form.email } });
  const stripe = buyer(newcomer.id);
  await deliverAll(one, [stripe.checkoutCompleted(), stripe.created()]);
  expect(await userRow(one, newcomer.id)).toMatchObject({ tier: 'paid' });
  expect(await userRow(one, referrer.id)).toMatchObject({ creditUntil: null });
  expect((await doctor(commandContext(one))).json).toMatchObject({ findings: [] });
});
