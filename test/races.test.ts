import { describe, expect, test } from 'vitest';

import { doctor } from '../src/operator/doctor.ts';
import { relink } from '../src/operator/relink.ts';
import { resetLink } from '../src/operator/reset-link.ts';
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
import { askFor, MAIL, outbox, provePath, resetPathOf } from './support/mail.ts';
import { until } from './support/process.ts';
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
 * Starts one request, stops it before a write, starts another on the second server until it waits for the first one's
 * lock, and lets both go. On SQLite both are only started at once, because one always waits for the other's end.
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

describe('a customer is linked on one server while the other stores their subscription', () => {
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

test('two customers of one user are linked at the same time', async () => {
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

test('a first invoice of zero and the active snapshot arrive together', async () => {
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

test('a lost dispute and the event that ties its payment to the invoice arrive together', async () => {
  const { one, other, referrer, friend, stripe } = await twoServers();
  await deliverAll(one, [stripe.checkoutCompleted(), stripe.created(), stripe.invoicePaid()]);
  const lost = stripe.dispute(START).lost(START);
  await raceOfEvents({ one, other }, stripe.invoicePaymentPaid(), ['UPDATE', 'Invoice'], lost);
  expect(await one.db.referral.findFirst()).toMatchObject({ reversedAt: START });
  for (const { id } of [friend, referrer])
    expect(await userRow(one, id)).toMatchObject({ creditUntil: START });
});

test('a reversal and another conversion of the same referrer happen together', async () => {
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

test('somebody converts at the same time as the friend they invited', async () => {
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

const deleteAccount = ({ app }: TestServer, { cookie }: Person) =>
  postForm(app, '/settings/delete', { currentPassword: PASSWORD }, cookie);

describe('an account is deleted while a checkout that names it completes', () => {
  test('the checkout commits first: the account stays, because it has paid', async () => {
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
  const expectSound = async () => {
    expect((await doctor(commandContext(one))).json).toMatchObject({ findings: [] });
  };
  return { ...story, owner, ownerOf, expectSound };
}

const MOVES: Point = ['UPDATE', 'Customer', 'NEW."userId" <> OLD."userId"'];

describe('a customer is moved by relink while something else happens to it', () => {
  test('the move commits before an event of the customer: the event is applied to the new account', async () => {
    const { one, other, friend, owner, stripe, expectSound } = await aboutToMove();
    const ends = () => deliver(other, stripe.ended(START));
    expect(await race(one, () => relinks(one, stripe, owner), MOVES, ends)).toEqual([0, 200]);
    expect(await userRow(one, friend.id)).toMatchObject({ tier: 'free' });
    expect(await userRow(one, owner.id)).toMatchObject({ tier: 'free', creditUntil: daysAfter(45) });
    await expectSound();
  });

  test('the event commits before the move: the new account gets what it left', async () => {
    const { one, other, friend, owner, stripe, expectSound } = await aboutToMove();
    const point: Point = ['UPDATE', 'Subscription', `NEW."status" = 'canceled'`];
    const moves = () => relinks(other, stripe, owner);
    expect(await race(one, () => deliver(one, stripe.ended(START)), point, moves)).toEqual([200, 0]);
    expect(await userRow(one, friend.id)).toMatchObject({ tier: 'free', creditUntil: START });
    expect(await userRow(one, owner.id)).toMatchObject({ tier: 'free', creditUntil: daysAfter(45) });
    await expectSound();
  });

  test('two operators move it to two accounts: one after the other, and nothing is given twice', async () => {
    const { one, other, friend, referrer, owner, stripe, ownerOf, expectSound } = await aboutToMove();
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
    await expectSound();
  });

  test('two customers change places between two accounts at once', async () => {
    const { one, other, friend, owner, stripe, expectSound } = await aboutToMove();
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
    await expectSound();
  });

  test('its new account is deleted: whichever comes first, the other one is refused', async () => {
    const { one, other, friend, owner, stripe, ownerOf, expectSound } = await aboutToMove();
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
    await expectSound();
  });

  test.runIf(SIDE_BY_SIDE)('its new account is deleted first: the move is refused', async () => {
    const { one, other, friend, owner, stripe, ownerOf, expectSound } = await aboutToMove();
    const point: Point = ['UPDATE', 'User', 'NEW."deletedAt" IS NOT NULL'];
    const moves = () => relinks(other, stripe, owner);
    expect(await race(one, () => deleteAccount(one, owner), point, moves)).toEqual([303, 1]);
    expect(await ownerOf()).toBe(friend.id);
    await expectSound();
  });

  test('a checkout links it for the first time while an operator does', async () => {
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

test('an account is deleted while somebody signs up with its code: they convert without a referrer', async () => {
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

const NEW_PASSWORD = 'battery staple';

/** A user who is logged in on two servers of one database. */
async function annOnTwoServers() {
  const one = await startTestServer();
  const other = await startTestServer({ DATABASE_URL: one.databaseUrl }, one.clock);
  return { one, other, ann: await signUp(one, 'ann@example.com') };
}

async function resetPath(server: TestServer): Promise<string> {
  const { json } = await resetLink(commandContext(server), 'ann@example.com');
  return new URL((json as { url: string }).url).pathname;
}

/** Sends one request to a server and keeps its answer. */
function posting(url: string, fields: Record<string, string>, cookie = '') {
  const kept: { cookies: string } = { cookies: '' };
  const post = async ({ app }: TestServer) => {
    const answer = await postForm(app, url, fields, cookie);
    kept.cookies = cookiesOf(answer);
    return answer;
  };
  return { post, kept };
}

async function isLoggedIn({ app }: TestServer, cookie: string): Promise<boolean> {
  return (await app.inject({ url: '/api/me', headers: { cookie } })).statusCode === 200;
}

const logsIn = async ({ app }: TestServer, email: string, password: string): Promise<number> =>
  (await postForm(app, '/login', { email, password })).statusCode;

const NEW_HASH = 'NEW."passwordHash" <> OLD."passwordHash"';

describe('a password is reset at the same time as another request', () => {
  test.each(['the login first', 'the reset first'])(
    'a login with the old password during a reset, %s, leaves no session',
    async (order) => {
      const { one, other } = await annOnTwoServers();
      const reset = posting(await resetPath(one), { password: NEW_PASSWORD });
      const login = posting('/login', { email: 'ann@example.com', password: PASSWORD });
      const answers =
        order === 'the reset first'
          ? await race(
              one,
              () => reset.post(one),
              ['UPDATE', 'User', NEW_HASH],
              () => login.post(other),
            )
          : await race(
              one,
              () => login.post(one),
              ['INSERT', 'Session'],
              () => reset.post(other),
            );
      if (SIDE_BY_SIDE) expect(answers).toEqual(order === 'the reset first' ? [303, 401] : [303, 303]);
      expect(await isLoggedIn(one, login.kept.cookies)).toBe(false);
      expect(await one.db.session.count()).toBe(0);
      expect(await logsIn(one, 'ann@example.com', PASSWORD)).toBe(401);
      expect(await logsIn(one, 'ann@example.com', NEW_PASSWORD)).toBe(303);
    },
  );

  test('changing the password with the old one during a reset does not undo the reset', async () => {
    const { one, other, ann } = await annOnTwoServers();
    const reset = posting(await resetPath(one), { password: NEW_PASSWORD });
    const fields = { currentPassword: PASSWORD, newPassword: 'of a thief' };
    const change = posting('/settings/password', fields, ann.cookie);
    const answers = await race(
      one,
      () => reset.post(one),
      ['UPDATE', 'User', NEW_HASH],
      () => change.post(other),
    );
    if (SIDE_BY_SIDE) expect(answers).toEqual([303, 403]);
    // If the change came first, it ended the link, and the reset was refused.
    const holds = answers[0] === 303 ? NEW_PASSWORD : 'of a thief';
    expect(await logsIn(one, 'ann@example.com', holds)).toBe(303);
    expect(answers.filter((status) => status === 303)).toHaveLength(1);
  });

  test.each([
    ['/settings/address', { email: 'thief@example.com', currentPassword: PASSWORD }],
    ['/settings/delete', { currentPassword: PASSWORD }],
  ])('%s with the old password during a reset is refused, or came first', async (url, fields) => {
    const { one, other, ann } = await annOnTwoServers();
    const reset = posting(await resetPath(one), { password: NEW_PASSWORD });
    const asked = posting(url, fields, ann.cookie);
    const answers = await race(
      one,
      () => reset.post(one),
      ['UPDATE', 'User', NEW_HASH],
      () => asked.post(other),
    );
    if (SIDE_BY_SIDE) expect(answers).toEqual([303, 403]);
    if (answers[0] === 303) {
      expect(await logsIn(one, 'ann@example.com', NEW_PASSWORD)).toBe(303);
      expect(await logsIn(one, 'thief@example.com', PASSWORD)).toBe(401);
    } else {
      expect(answers).toEqual([404, 303]);
    }
  });

  test('the same link is used twice at once: only one counts', async () => {
    const { one, other } = await annOnTwoServers();
    const path = await resetPath(one);
    const [first, second] = [
      posting(path, { password: NEW_PASSWORD }),
      posting(path, { password: 'another staple' }),
    ];
    const answers = await race(
      one,
      () => first.post(one),
      ['UPDATE', 'User', NEW_HASH],
      () => second.post(other),
    );
    expect(answers.toSorted()).toEqual([303, 404]);
    const holds = answers[0] === 303 ? NEW_PASSWORD : 'another staple';
    expect(await logsIn(one, 'ann@example.com', holds)).toBe(303);
  });
});

describe('an account is deleted at the same time as another request', () => {
  const DELETED = 'NEW."deletedAt" IS NOT NULL';

  async function expectNothingLeft({ db }: TestServer, id: string): Promise<void> {
    expect(await db.user.findUniqueOrThrow({ where: { id } })).toMatchObject({
      email: null,
      passwordHash: null,
    });
    for (const left of [
      await db.session.count({ where: { userId: id } }),
      await db.resetLink.count({ where: { userId: id } }),
      await db.formerAddress.count({ where: { userId: id } }),
    ])
      expect(left).toBe(0);
  }

  test.each([
    ['somebody logs in', '/login', { email: 'ann@example.com', password: PASSWORD }, 401],
    [
      'the address is changed',
      '/settings/address',
      { email: 'new@example.com', currentPassword: PASSWORD },
      403,
    ],
    [
      'the password is changed',
      '/settings/password',
      { currentPassword: PASSWORD, newPassword: NEW_PASSWORD },
      403,
    ],
    ['it is deleted a second time', '/settings/delete', { currentPassword: PASSWORD }, 403],
  ])('%s: the tombstone holds nothing', async (_what, url, fields, refused) => {
    const { one, other, ann } = await annOnTwoServers();
    const meanwhile = posting(url, fields, url === '/login' ? '' : ann.cookie);
    const answers = await race(
      one,
      () => deleteAccount(one, ann),
      ['UPDATE', 'User', DELETED],
      () => meanwhile.post(other),
    );
    if (SIDE_BY_SIDE) expect(answers).toEqual([303, refused]);
    // On SQLite the other one can come first; changing the password then ends the session that asks for the deletion.
    if (answers[0] === 303) await expectNothingLeft(one, ann.id);
    else expect(answers).toEqual([403, 303]);
  });

  test.runIf(SIDE_BY_SIDE)(
    'a checkout during a deletion is not opened, and the browser is sent to the login page',
    async () => {
      const stripe = { STRIPE_API_KEY: 'sk_test_x', STRIPE_API_BASE: 'http://127.0.0.1:9' };
      const one = await startTestServer(stripe);
      const other = await startTestServer({ ...stripe, DATABASE_URL: one.databaseUrl }, one.clock);
      const ann = await signUp(one, 'ann@example.com');
      let location: unknown;
      const answers = await race(
        one,
        () => deleteAccount(one, ann),
        ['UPDATE', 'User', DELETED],
        async () => {
          const accept = { accept: 'text/html' };
          const answer = await postForm(
            other.app,
            '/api/billing/checkout',
            { plan: 'monthly' },
            ann.cookie,
            accept,
          );
          location = answer.headers.location;
          return answer;
        },
      );
      expect([...answers, location]).toEqual([303, 303, '/login?plan=monthly']);
      expect(await one.db.checkout.count()).toBe(0);
      await expectNothingLeft(one, ann.id);
    },
  );

  test.runIf(SIDE_BY_SIDE)('an operator cannot make a reset link during a deletion', async () => {
    const { one, ann } = await annOnTwoServers();
    const { arrived, blocked, open } = await holdBefore(one, 'UPDATE', 'User', DELETED);
    const deleted = deleteAccount(one, ann);
    await arrived();
    const made = resetLink(commandContext(one), 'ann@example.com').catch((error: unknown) => error);
    await blocked();
    await open();
    expect((await deleted).statusCode).toBe(303);
    expect(String(await made)).toContain('was deleted, so it has no password to reset');
    await expectNothingLeft(one, ann.id);
  });
});

describe('an address is proven while', () => {
  const NEW = 'new@example.com';
  const MOVED = 'NEW."email" <> OLD."email"';
  /** The address is taken by then. */
  const TOLD: Point = ['INSERT', 'OutboxItem', `NEW."kind" = 'mail.address-changed'`];

  /** Ann has asked for another address; two servers can prove it. */
  async function annWantsAnother() {
    const one = await startTestServer(MAIL);
    const other = await startTestServer({ ...MAIL, DATABASE_URL: one.databaseUrl }, one.clock);
    const ann = await signUp(one, 'ann@example.com');
    expect((await askFor(one, ann, NEW)).statusCode).toBe(303);
    return { one, other, ann, proof: posting(await provePath(one, ann), {}) };
  }

  const emailOf = async ({ db }: TestServer, { id }: Person) =>
    (await db.user.findUniqueOrThrow({ where: { id } })).email;

  async function expectSound(server: TestServer): Promise<void> {
    expect((await doctor(commandContext(server))).json).toMatchObject({ findings: [] });
  }

  test('the account is deleted, the deletion first: the address stays free', async () => {
    const { one, other, ann, proof } = await annWantsAnother();
    const answers = await race(
      one,
      () => deleteAccount(one, ann),
      ['UPDATE', 'User', 'NEW."deletedAt" IS NOT NULL'],
      () => proof.post(other),
    );
    if (SIDE_BY_SIDE) expect(answers).toEqual([303, 404]);
    expect(await emailOf(one, ann)).toBe(answers[0] === 303 ? null : NEW);
    await expectSound(one);
  });

  test('the account is deleted, the proof first: the deletion stands, or was not asked for any more', async () => {
    const { one, other, ann, proof } = await annWantsAnother();
    const answers = await race(
      one,
      () => proof.post(one),
      ['UPDATE', 'User', MOVED],
      () => deleteAccount(other, ann),
    );
    if (SIDE_BY_SIDE) {
      expect(answers).toEqual([200, 303]);
      expect(await emailOf(one, ann)).toBeNull();
    }
    await expectSound(one);
  });

  test('another change is asked for: the link that was mailed before it is void, or has done its work', async () => {
    const { one, other, ann, proof } = await annWantsAnother();
    const PENDING = 'NEW."pendingEmail" <> OLD."pendingEmail"';
    const answers = await race(
      one,
      () => askFor(one, ann, 'newer@example.com'),
      ['UPDATE', 'User', PENDING],
      () => proof.post(other),
    );
    if (SIDE_BY_SIDE) expect(answers).toEqual([303, 404]);
    expect(await emailOf(one, ann)).toBe(answers[1] === 404 ? 'ann@example.com' : NEW);
  });

  test('the password is changed: the link is void, or has done its work', async () => {
    const { one, other, ann, proof } = await annWantsAnother();
    const change = posting(
      '/settings/password',
      { currentPassword: PASSWORD, newPassword: NEW_PASSWORD },
      ann.cookie,
    );
    const answers = await race(
      one,
      () => change.post(one),
      ['UPDATE', 'User', NEW_HASH],
      () => proof.post(other),
    );
    if (SIDE_BY_SIDE) expect(answers).toEqual([303, 404]);
    expect(await emailOf(one, ann)).toBe(answers[1] === 404 ? 'ann@example.com' : NEW);
  });

  test('somebody signs up with it, the sign-up first: they have proven nothing, and lose it', async () => {
    const { one, other, ann, proof } = await annWantsAnother();
    const signingUp = posting('/signup', { email: NEW, password: NEW_PASSWORD });
    const answers = await race(
      one,
      () => signingUp.post(one),
      ['INSERT', 'Session'],
      () => proof.post(other),
    );
    if (SIDE_BY_SIDE) expect(answers).toEqual([303, 200]);
    expect(await emailOf(one, ann)).toBe(NEW);
    expect(await one.db.user.count({ where: { email: NEW } })).toBe(1);
    expect(await isLoggedIn(one, signingUp.kept.cookies)).toBe(false);
    await expectSound(one);
  });

  test('somebody signs up with it, the proof first: the address has an account', async () => {
    const { one, other, ann, proof } = await annWantsAnother();
    const signingUp = posting('/signup', { email: NEW, password: NEW_PASSWORD });
    const answers = await race(
      one,
      () => proof.post(one),
      TOLD,
      () => signingUp.post(other),
    );
    if (SIDE_BY_SIDE) expect(answers).toEqual([200, 409]);
    expect(await emailOf(one, ann)).toBe(NEW);
    expect(await one.db.user.count({ where: { email: NEW } })).toBe(1);
  });

  test('the same link is used twice at once: both are told that it is proven, and it is done once', async () => {
    const { one, other, proof } = await annWantsAnother();
    const answers = await race(
      one,
      () => proof.post(one),
      ['UPDATE', 'User', MOVED],
      () => proof.post(other),
    );
    expect(answers).toEqual([200, 200]);
    expect(await outbox(one, 'mail.address-changed')).toHaveLength(1);
  });

  test('another account proves it as well: one of the two has it', async () => {
    const { one, other, ann, proof } = await annWantsAnother();
    const bob = await signUp(one, 'bob@example.com');
    await askFor(one, bob, NEW);
    const theirs = posting(await provePath(one, bob), {});
    const answers = await race(
      one,
      () => proof.post(one),
      TOLD,
      () => theirs.post(other),
    );
    expect(answers.toSorted()).toEqual([200, 409]);
    const [annHas, bobHas] = [await emailOf(one, ann), await emailOf(one, bob)];
    expect([annHas, bobHas].filter((email) => email === NEW)).toHaveLength(1);
    await expectSound(one);
  });

  /** Somebody has an account with the address that Ann wants, and proved nothing. */
  async function withHolder() {
    const world = await annWantsAnother();
    const holder = await signUp(world.one, NEW);
    return { ...world, holder };
  }

  test.each(['the payment first', 'the proof first'])(
    'whoever has it pays, %s: nobody who paid is deleted',
    async (order) => {
      const { one, other, ann, holder, proof } = await withHolder();
      const stripe = buyer(holder.id);
      await deliverAll(one, [stripe.created()]);
      const pays = () => deliver(order === 'the payment first' ? one : other, stripe.checkoutCompleted());
      const answers =
        order === 'the payment first'
          ? await race(one, pays, ['UPDATE', 'User', `NEW."tier" = 'paid' AND OLD."tier" = 'free'`], () =>
              proof.post(other),
            )
          : await race(one, () => proof.post(one), ['UPDATE', 'User', 'NEW."deletedAt" IS NOT NULL'], pays);
      if (SIDE_BY_SIDE) expect(answers).toEqual(order === 'the payment first' ? [200, 409] : [200, 200]);
      const { deletedAt, tier } = await userRow(one, holder.id);
      expect([deletedAt === null, tier]).toEqual(deletedAt === null ? [true, 'paid'] : [false, 'free']);
      expect(await emailOf(one, ann)).toBe(deletedAt === null ? 'ann@example.com' : NEW);
      await expectSound(one);
    },
  );

  test.each(['the reset first', 'the proof first'])(
    'whoever has it proves it by a reset link, %s: one of the two has it',
    async (order) => {
      const { one, other, ann, holder, proof } = await withHolder();
      await postForm(one.app, '/forgot', { email: NEW });
      const mail = await until(async () => (await outbox(one, 'mail.reset-password'))[0]);
      const reset = posting(resetPathOf(one, mail), { password: NEW_PASSWORD });
      const answers =
        order === 'the reset first'
          ? await race(
              one,
              () => reset.post(one),
              ['UPDATE', 'User', NEW_HASH],
              () => proof.post(other),
            )
          : await race(
              one,
              () => proof.post(one),
              ['UPDATE', 'User', 'NEW."deletedAt" IS NOT NULL'],
              () => reset.post(other),
            );
      if (SIDE_BY_SIDE) expect(answers).toEqual(order === 'the reset first' ? [303, 409] : [200, 404]);
      const kept = (await userRow(one, holder.id)).deletedAt === null;
      expect(await emailOf(one, ann)).toBe(kept ? 'ann@example.com' : NEW);
      expect(await logsIn(one, NEW, NEW_PASSWORD)).toBe(kept ? 303 : 401);
      await expectSound(one);
    },
  );
});

test('a reset link that was mailed is used twice at once: one of the two counts', async () => {
  const one = await startTestServer(MAIL);
  const other = await startTestServer({ ...MAIL, DATABASE_URL: one.databaseUrl }, one.clock);
  await signUp(one, 'ann@example.com');
  await postForm(one.app, '/forgot', { email: 'ann@example.com' });
  const mail = await until(async () => (await outbox(one, 'mail.reset-password'))[0]);
  const path = resetPathOf(one, mail);
  const [first, second] = [
    posting(path, { password: NEW_PASSWORD }),
    posting(path, { password: 'another staple' }),
  ];
  const answers = await race(
    one,
    () => first.post(one),
    ['UPDATE', 'User', NEW_HASH],
    () => second.post(other),
  );
  expect(answers.toSorted()).toEqual([303, 404]);
  expect(await logsIn(one, 'ann@example.com', answers[0] === 303 ? NEW_PASSWORD : 'another staple')).toBe(
    303,
  );
  expect(await outbox(one, 'mail.password-changed')).toHaveLength(1);
});

test('an address is changed twice at once: every former one that counts is kept', async () => {
  const { one, other, friend, stripe } = await twoServers();
  await deliverAll(one, [stripe.checkoutCompleted(), stripe.created()]);
  const change = (email: string) =>
    posting('/settings/address', { email, currentPassword: PASSWORD }, friend.cookie);
  const [first, second] = [change('first@example.com'), change('second@example.com')];
  const answers = await race(
    one,
    () => first.post(one),
    ['UPDATE', 'User', 'NEW."email" <> OLD."email"'],
    () => second.post(other),
  );
  expect(answers).toEqual([303, 303]);
  const { emailHash } = await one.db.user.findUniqueOrThrow({ where: { id: friend.id } });
  const former = await one.db.formerAddress.findMany({ where: { userId: friend.id } });
  // The address in between was held without a payment, so it does not count.
  expect(former).toHaveLength(1);
  expect(former.map((row) => row.emailHash)).not.toContain(emailHash);
  const again = await signUp(one, 'friend+again@example.com');
  const row = await one.db.user.findUniqueOrThrow({ where: { id: again.id } });
  expect(former.map((one) => one.emailHash)).toEqual([row.emailHash]);
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
  expect((await doctor(commandContext(one))).json).toMatchObject({ findings: [] });
});

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
  expect((await doctor(commandContext(one))).json).toMatchObject({ findings: [] });
});
