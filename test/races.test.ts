import { describe, expect, test } from 'vitest';

import { transactionRetries } from '../src/metrics.ts';
import { relink } from '../src/operator/relink.ts';
import { commandContext } from './support/command-context.ts';
import { expectSound } from './support/findings.ts';
import { invitedFriend } from './support/invited-friend.ts';
import { otherConnection, refuseWrites } from './support/other-connection.ts';
import { until } from './support/process.ts';
import { holdBefore, race, SIDE_BY_SIDE } from './support/race-point.ts';
import type { Point } from './support/race-point.ts';
import {
  cookiesOf,
  daysAfter,
  deleteAccount,
  deliver,
  deliverAll,
  PASSWORD,
  postForm,
  signUp,
  START,
  startTestServer,
  userRow,
} from './support/server.ts';
import type { Person, TestServer } from './support/server.ts';
import { buyer } from './support/stripe-events.ts';

/** Two servers on one database, and a friend with a referrer. */
async function twoServers() {
  const one = await startTestServer();
  const other = await startTestServer({ DATABASE_URL: one.databaseUrl }, one.clock);
  return { one, other, ...(await invitedFriend(one)) };
}

/** Two events race, and both are applied. */
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

describe('a customer is linked on one server while the other stores their subscription (design: rule 5)', () => {
  test('the link commits before the subscription, and the user is paid', async () => {
    const { one, other, referrer, friend, stripe } = await twoServers();
    await raceOfEvents({ one, other }, stripe.checkoutCompleted(), ['UPDATE', 'Customer'], stripe.created());
    expect(await userRow(one, friend.id)).toMatchObject({ tier: 'paid', creditUntil: daysAfter(45) });
    expect(await userRow(one, referrer.id)).toMatchObject({ creditUntil: daysAfter(45) });
  });

  test('the subscription commits before the link, and the user is paid', async () => {
    const { one, other, referrer, friend, stripe } = await twoServers();
    await raceOfEvents(
      { one, other },
      stripe.created(),
      ['INSERT', 'Subscription'],
      stripe.checkoutCompleted(),
    );
    expect(await userRow(one, friend.id)).toMatchObject({ tier: 'paid', creditUntil: daysAfter(45) });
    expect(await userRow(one, referrer.id)).toMatchObject({ creditUntil: daysAfter(45) });
  });
});

test('two customers of one user are linked at the same time: both are linked, and the user is credited once', async () => {
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

test('a first invoice of zero and the active snapshot arrive together: the friend is paid, and nobody has credit', async () => {
  const { one, other, referrer, friend, stripe } = await twoServers();
  await deliverAll(one, [stripe.checkoutCompleted()]);
  const zero = stripe.invoicePaid({ amount_paid: 0 });
  await raceOfEvents({ one, other }, stripe.created(), ['INSERT', 'Subscription'], zero);
  // Whichever came first: nothing proves a payment, and nobody has credit from it.
  expect(await userRow(one, friend.id)).toMatchObject({ tier: 'paid' });
  for (const { id } of [friend, referrer]) {
    const { creditUntil } = await userRow(one, id);
    expect(creditUntil?.getTime() ?? START.getTime()).toBe(START.getTime());
  }
});

test('a lost dispute and the event that ties its payment to the invoice arrive together: the conversion is reversed', async () => {
  const { one, other, referrer, friend, stripe } = await twoServers();
  await deliverAll(one, [stripe.checkoutCompleted(), stripe.created(), stripe.invoicePaid()]);
  const lost = stripe.dispute(START).lost(START);
  await raceOfEvents({ one, other }, stripe.invoicePaymentPaid(), ['UPDATE', 'Invoice'], lost);
  expect(await one.db.referral.findFirst()).toMatchObject({ reversedAt: START });
  for (const { id } of [friend, referrer])
    expect(await userRow(one, id)).toMatchObject({ creditUntil: START });
});

test('a reversal and another conversion of the same referrer happen together: only the days of the reversed one are taken', async () => {
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

test('somebody converts at the same time as the friend they invited: each conversion credits both of its people', async () => {
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
  'recording a failure does not overwrite an event that the other server has applied',
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

test('one person signs up twice at once under two tags and gets a referral for each', async () => {
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

test('the same event reaching both servers at once is applied once', async () => {
  const { one, other, friend, stripe } = await twoServers();
  await deliverAll(one, [stripe.checkoutCompleted()]);
  const event = stripe.created();
  await raceOfEvents({ one, other }, event, ['INSERT', 'CreditEntry'], event);
  expect(await userRow(one, friend.id)).toMatchObject({ creditUntil: daysAfter(45) });
  expect(await one.db.auditRow.count({ where: { userId: friend.id, kind: 'tier' } })).toBe(1);
});

describe('an account is deleted while a checkout that names it completes (design: rule 5)', () => {
  test.skipIf(SIDE_BY_SIDE)(
    'an account that has paid is not deleted, and a deleted one is not paid',
    async () => {
      const { one, other, friend, stripe } = await twoServers();
      await deliverAll(one, [stripe.created()]);
      const [checkout, deletion] = await Promise.all([
        deliver(one, stripe.checkoutCompleted()),
        deleteAccount(other, friend),
      ]);
      expect(checkout.statusCode).toBe(200);
      const { tier, deletedAt } = await userRow(one, friend.id);
      expect([deletion.statusCode, tier, deletedAt === null]).toEqual(
        deletedAt === null ? [409, 'paid', true] : [303, 'free', false],
      );
    },
  );

  test.runIf(SIDE_BY_SIDE)('the checkout commits first: the account stays, because it has paid', async () => {
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

  test.runIf(SIDE_BY_SIDE)('the deletion commits first: the customer belongs to nobody', async () => {
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

/** Moves a customer on a server; 0 when done, 1 when refused. */
async function relinks(
  server: TestServer,
  { customer }: { customer: string },
  { id }: Person,
): Promise<{ statusCode: number }> {
  const moved = relink(commandContext(server), customer, id, undefined);
  return moved.then(
    () => ({ statusCode: 0 }),
    () => ({ statusCode: 1 }),
  );
}

/** The friend has paid as a customer that an operator moves to another account, which the same referrer invited. */
async function aboutToMove() {
  const story = await twoServers();
  const { one, referrer, stripe } = story;
  const owner = await signUp(one, 'owner@example.com', referrer.code);
  await deliverAll(one, [stripe.checkoutCompleted(), stripe.created(), stripe.invoicePaid()]);
  const ownerOf = async () => (await one.db.customer.findFirstOrThrow()).userId;
  return { ...story, owner, ownerOf };
}

const MOVES: Point = ['UPDATE', 'Customer', 'NEW."userId" <> OLD."userId"'];

describe('a customer is moved by relink while something else happens to it (design: rule 5)', () => {
  test('the move commits before an event of the customer: the event is applied to the new account', async () => {
    const { one, other, friend, owner, stripe } = await aboutToMove();
    const ends = () => deliver(other, stripe.ended(START));
    expect(await race(one, () => relinks(one, stripe, owner), MOVES, ends)).toEqual([0, 200]);
    expect(await userRow(one, friend.id)).toMatchObject({ tier: 'free' });
    expect(await userRow(one, owner.id)).toMatchObject({ tier: 'free', creditUntil: daysAfter(45) });
    await expectSound(one);
  });

  test('the event commits before the move: the new account gets what it left', async () => {
    const { one, other, friend, owner, stripe } = await aboutToMove();
    const point: Point = ['UPDATE', 'Subscription', `NEW."status" = 'canceled'`];
    const moves = () => relinks(other, stripe, owner);
    expect(await race(one, () => deliver(one, stripe.ended(START)), point, moves)).toEqual([200, 0]);
    expect(await userRow(one, friend.id)).toMatchObject({ tier: 'free', creditUntil: START });
    expect(await userRow(one, owner.id)).toMatchObject({ tier: 'free', creditUntil: daysAfter(45) });
    await expectSound(one);
  });

  test('two operators move it to two accounts: one after the other, and nothing is given twice', async () => {
    const { one, other, friend, referrer, owner, stripe, ownerOf } = await aboutToMove();
    const third = await signUp(one, 'third@example.com', referrer.code);
    const answers = await race(
      one,
      () => relinks(one, stripe, owner),
      MOVES,
      () => relinks(other, stripe, third),
    );
    expect(answers).toEqual([0, 0]);
    expect([owner.id, third.id]).toContain(await ownerOf());
    const paid = await one.db.user.findMany({ where: { tier: 'paid' } });
    expect(paid.map(({ id }) => id)).toEqual([await ownerOf()]);
    expect(await userRow(one, friend.id)).toMatchObject({ creditUntil: START });
    expect(await userRow(one, referrer.id)).toMatchObject({ creditUntil: daysAfter(45) });
    await expectSound(one);
  });

  test('two customers change places between two accounts at once: both accounts stay paid', async () => {
    const { one, other, friend, owner, stripe } = await aboutToMove();
    const theirs = buyer(owner.id);
    await deliverAll(one, [theirs.checkoutCompleted(), theirs.created()]);
    const answers = await race(
      one,
      () => relinks(one, stripe, owner),
      MOVES,
      () => relinks(other, theirs, friend),
    );
    expect(answers).toEqual([0, 0]);
    for (const { id } of [friend, owner]) expect(await userRow(one, id)).toMatchObject({ tier: 'paid' });
    await expectSound(one);
  });

  test('its new account is deleted: whichever comes first, the other one is refused', async () => {
    const { one, other, friend, owner, stripe, ownerOf } = await aboutToMove();
    const answers = await race(
      one,
      () => relinks(one, stripe, owner),
      MOVES,
      () => deleteAccount(other, owner),
    );
    const isMoved = (await ownerOf()) === owner.id;
    expect(answers).toEqual(isMoved ? [0, 409] : [1, 303]);
    if (SIDE_BY_SIDE) expect(isMoved).toBe(true);
    expect(await userRow(one, friend.id)).toMatchObject({ tier: isMoved ? 'free' : 'paid' });
    await expectSound(one);
  });

  test.runIf(SIDE_BY_SIDE)('its new account is deleted first: the move is refused', async () => {
    const { one, other, friend, owner, stripe, ownerOf } = await aboutToMove();
    const point: Point = ['UPDATE', 'User', 'NEW."deletedAt" IS NOT NULL'];
    const moves = () => relinks(other, stripe, owner);
    expect(await race(one, () => deleteAccount(one, owner), point, moves)).toEqual([303, 1]);
    expect(await ownerOf()).toBe(friend.id);
    await expectSound(one);
  });

  test('a checkout links it for the first time while an operator does: the operator’s choice stands', async () => {
    const { one, other, friend } = await twoServers();
    const owner = await signUp(one, 'owner@example.com');
    const stripe = buyer(friend.id);
    await deliverAll(one, [stripe.created()]);
    const answers = await race(
      one,
      () => deliver(one, stripe.checkoutCompleted()),
      ['UPDATE', 'Customer', 'NEW."userId" IS NOT NULL'],
      () => relinks(other, stripe, owner),
    );
    expect(answers).toEqual([200, 0]);
    expect(await one.db.customer.findFirst()).toMatchObject({ userId: owner.id });
    expect(await userRow(one, owner.id)).toMatchObject({ tier: 'paid' });
    expect(await userRow(one, friend.id)).toMatchObject({ tier: 'free' });
  });
});

test('an account is deleted while somebody signs up with its code: they can pay, and the deleted account gets nothing', async () => {
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
  await expectSound(one);
});

test.each([
  ['of one address', 'pair+2@example.com'],
  ["at a person's present and former address", 'former@example.com'],
])('two accounts %s pay at once: one referral converts, the other is refused', async (_which, address) => {
  const { one, other, referrer } = await twoServers();
  const another = await signUp(one, 'another@example.com');
  const [first, second] = [
    await signUp(one, 'pair+1@example.com', referrer.code),
    // Another referrer, whose lock the first one's conversion does not hold.
    await signUp(one, address, another.code),
  ];
  const { emailHash } = await one.db.user.findUniqueOrThrow({ where: { id: second.id } });
  await one.db.formerAddress.create({ data: { userId: first.id, emailHash } });
  const [theirs, others] = [buyer(first.id), buyer(second.id)];
  await deliverAll(one, [theirs.checkoutCompleted(), others.checkoutCompleted()]);
  await raceOfEvents(
    { one, other },
    theirs.created(),
    ['INSERT', 'CreditEntry', `NEW."kind" = 'grant'`],
    others.created(),
  );
  const referrals = await one.db.referral.findMany({ where: { referredId: { in: [first.id, second.id] } } });
  const outcomes = referrals.map(({ convertedAt, refusedFor }) => (convertedAt ? 'converted' : refusedFor));
  expect(outcomes.toSorted()).toEqual(['address-converted', 'converted']);
  const until = [await userRow(one, referrer.id), await userRow(one, another.id)].map(
    (row) => row.creditUntil,
  );
  expect(until.filter((at) => at !== null)).toEqual([daysAfter(45)]);
  await expectSound(one);
});

// The address lock was taken on an address that is no longer the buyer's, so the transaction runs again.
test.runIf(SIDE_BY_SIDE)(
  'an invited buyer gets another address while their conversion waits: that one is locked too',
  async () => {
    const server = await startTestServer();
    const ann = await signUp(server, 'ann@example.com');
    const ben = await signUp(server, 'ben@example.com', ann.code);
    const stripe = buyer(ben.id);
    await deliver(server, stripe.checkoutCompleted());
    const [holder, look] = [await otherConnection(server), await otherConnection(server)];
    const retries = async (): Promise<number> =>
      (await transactionRetries.get()).values.reduce((sum, { value }) => sum + value, 0);
    const before = await retries();
    await holder.run(`BEGIN; SELECT 1 FROM "User" WHERE "id" = '${ben.id}' FOR UPDATE`);
    const paid = deliver(server, stripe.created());
    await until(async () => {
      const waiting = await look.rows(
        `SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`,
      );
      return waiting.length > 0 || undefined;
    });
    await holder.run(`UPDATE "User" SET "emailHash" = 'another' WHERE "id" = '${ben.id}'; COMMIT`);
    expect((await paid).statusCode).toBe(200);
    expect(await server.db.referral.findFirst()).toMatchObject({ referredHash: 'another' });
    expect(await retries()).toBeGreaterThan(before);
  },
);

test('two trials of one address start at once: one is accepted', async () => {
  const { one, other } = await twoServers();
  const [first, second] = [await signUp(one, 'pair+1@example.com'), await signUp(one, 'pair+2@example.com')];
  const [theirs, others] = [buyer(first.id), buyer(second.id)];
  await deliverAll(one, [theirs.checkoutCompleted(), others.checkoutCompleted()]);
  const trial = { status: 'trialing', trial_end: Math.floor(daysAfter(7).getTime() / 1000) };
  await raceOfEvents(
    { one, other },
    theirs.created(trial),
    ['UPDATE', 'User', `NEW."tier" = 'trial'`],
    others.created(trial),
  );
  const tiers = [await userRow(one, first.id), await userRow(one, second.id)].map(({ tier }) => tier);
  expect(tiers.toSorted()).toEqual(['free', 'trial']);
  await expectSound(one);
});
