import { describe, expect, test } from 'vitest';

import { relink } from '../src/operator/relink.ts';
import { resetLink } from '../src/operator/reset-link.ts';
import { commandContext, operatorResetPath } from './support/command-context.ts';
import { expectSound } from './support/findings.ts';
import { askFor, MAIL, outbox, provePath, resetPathOf } from './support/mail.ts';
import { until } from './support/process.ts';
import { holdBefore, race, SIDE_BY_SIDE } from './support/race-point.ts';
import type { Point } from './support/race-point.ts';
import { startTestSender } from './support/sender.ts';
import {
  cookiesOf,
  deleteAccount,
  deliver,
  deliverAll,
  loginStatus,
  me,
  PASSWORD,
  postForm,
  signUp,
  startTestServer,
  userRow,
} from './support/server.ts';
import type { Person, TestServer } from './support/server.ts';
import { openSessions, pressUpgrade, startWorld } from './support/stand-in.ts';
import { buyer } from './support/stripe-events.ts';

// Two requests of one account, or for one address, at the same time on two servers. races.test.ts tests simultaneous
// requests about payments and customers.

const NEW_PASSWORD = 'battery staple';

/** A user who is logged in on two servers of one database. */
async function annOnTwoServers() {
  const one = await startTestServer();
  const other = await startTestServer({ DATABASE_URL: one.databaseUrl }, one.clock);
  return { one, other, ann: await signUp(one, 'ann@example.com') };
}

/** Sends one request to a server and keeps its answer. */
function posting(url: string, fields: Record<string, string>, cookie = '') {
  const kept = { cookies: '', location: '' };
  const post = async ({ app }: TestServer) => {
    const answer = await postForm(app, url, fields, cookie);
    kept.cookies = cookiesOf(answer);
    kept.location = String(answer.headers.location);
    return answer;
  };
  return { post, kept };
}

async function isLoggedIn(server: TestServer, cookie: string): Promise<boolean> {
  return (await me(server, { cookie })) !== null;
}

const NEW_HASH = 'NEW."passwordHash" <> OLD."passwordHash"';

type Posting = ReturnType<typeof posting>;

/** The reset is stopped right before it stores the new password, until the other request waits for it. */
function raceTheReset(one: TestServer, reset: Posting, other: TestServer, asked: Posting) {
  return race(
    one,
    () => reset.post(one),
    ['UPDATE', 'User', NEW_HASH],
    () => asked.post(other),
  );
}

describe('a password is reset at the same time as another request', () => {
  test.each(['the login first', 'the reset first'])(
    'a login with the old password during a reset, %s, leaves no session',
    async (order) => {
      const { one, other } = await annOnTwoServers();
      const reset = posting(await operatorResetPath(one), { password: NEW_PASSWORD });
      const login = posting('/login', { email: 'ann@example.com', password: PASSWORD });
      const answers =
        order === 'the reset first'
          ? await raceTheReset(one, reset, other, login)
          : await race(
              one,
              () => login.post(one),
              ['INSERT', 'Session'],
              () => reset.post(other),
            );
      if (SIDE_BY_SIDE) expect(answers).toEqual(order === 'the reset first' ? [303, 401] : [303, 303]);
      expect(await isLoggedIn(one, login.kept.cookies)).toBe(false);
      expect(await one.db.session.count()).toBe(0);
      expect(await loginStatus(one, 'ann@example.com', PASSWORD)).toBe(401);
      expect(await loginStatus(one, 'ann@example.com', NEW_PASSWORD)).toBe(303);
    },
  );

  test('changing the password with the old one during a reset does not undo the reset', async () => {
    const { one, other, ann } = await annOnTwoServers();
    const reset = posting(await operatorResetPath(one), { password: NEW_PASSWORD });
    const fields = { currentPassword: PASSWORD, newPassword: 'of a thief' };
    const change = posting('/settings/password', fields, ann.cookie);
    const answers = await raceTheReset(one, reset, other, change);
    if (SIDE_BY_SIDE) expect(answers).toEqual([303, 403]);
    // If the change came first, it ended the link, and the reset was refused.
    const [holds, fails] = answers[0] === 303 ? [NEW_PASSWORD, 'of a thief'] : ['of a thief', NEW_PASSWORD];
    expect(await loginStatus(one, 'ann@example.com', holds)).toBe(303);
    expect(await loginStatus(one, 'ann@example.com', fails)).toBe(401);
  });

  test.each([
    ['/settings/address', { email: 'thief@example.com', currentPassword: PASSWORD }, 403],
    ['/settings/delete', { currentPassword: PASSWORD }, 409],
  ])('%s with the old password during a reset is refused, or came first', async (url, fields, refused) => {
    const { one, other, ann } = await annOnTwoServers();
    const reset = posting(await operatorResetPath(one), { password: NEW_PASSWORD });
    const asked = posting(url, fields, ann.cookie);
    const answers = await raceTheReset(one, reset, other, asked);
    if (SIDE_BY_SIDE) expect(answers).toEqual([303, refused]);
    if (answers[0] === 303) {
      expect(await loginStatus(one, 'ann@example.com', NEW_PASSWORD)).toBe(303);
      expect(await loginStatus(one, 'thief@example.com', PASSWORD)).toBe(401);
    } else {
      expect(answers).toEqual([404, 303]);
    }
  });

  // On SQLite the change comes first, because the reset hashes a password before its transaction.
  test.runIf(SIDE_BY_SIDE).each([
    ['/settings/mail', { wanted: 'no' }],
    ['/portfolio/backups/b1/delete', {}],
  ])('%s of an older session during a reset is refused', async (url, fields) => {
    const { one, other, ann } = await annOnTwoServers();
    await one.db.backup.create({
      data: { id: 'b1', userId: ann.id, number: 1, document: '{}', createdAt: one.clock.now },
    });
    const reset = posting(await operatorResetPath(one), { password: NEW_PASSWORD });
    const asked = posting(url, fields, ann.cookie);
    const answers = await raceTheReset(one, reset, other, asked);
    expect(answers).toEqual([303, 303]);
    expect(asked.kept.location).toBe('/login');
    expect(await userRow(one, ann.id)).toMatchObject({ mailOff: false });
    expect(await one.db.backup.count()).toBe(1);
  });

  test('the same link is used twice at once: only one counts', async () => {
    const { one, other } = await annOnTwoServers();
    const path = await operatorResetPath(one);
    const [first, second] = [
      posting(path, { password: NEW_PASSWORD }),
      posting(path, { password: 'another staple' }),
    ];
    const answers = await raceTheReset(one, first, other, second);
    expect(answers.toSorted()).toEqual([303, 404]);
    const holds = answers[0] === 303 ? NEW_PASSWORD : 'another staple';
    expect(await loginStatus(one, 'ann@example.com', holds)).toBe(303);
  });
});

test('a double click on "Change password" gives both requests the same answer', async () => {
  const { one, other, ann } = await annOnTwoServers();
  const fields = { currentPassword: PASSWORD, newPassword: NEW_PASSWORD };
  const clicks = [1, 2].map(() => posting('/settings/password', fields, ann.cookie));
  const [first, second] = [clicks[0] as Posting, clicks[1] as Posting];
  const answers = await race(
    one,
    () => first.post(one),
    ['UPDATE', 'User', NEW_HASH],
    () => second.post(other),
  );
  expect(answers).toEqual([303, 303]);
  for (const { kept } of [first, second]) {
    expect(kept.location).toBe('/settings');
    expect(await isLoggedIn(one, kept.cookies)).toBe(true);
  }
  expect(await isLoggedIn(one, ann.cookie)).toBe(false);
  expect(await loginStatus(one, 'ann@example.com', NEW_PASSWORD)).toBe(303);
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
    ['it is deleted by a double click', '/settings/delete', { currentPassword: PASSWORD }, 303],
  ])('%s: the tombstone holds nothing', async (_what, url, fields, answered) => {
    const { one, other, ann } = await annOnTwoServers();
    const meanwhile = posting(url, fields, url === '/login' ? '' : ann.cookie);
    const answers = await race(
      one,
      () => deleteAccount(one, ann),
      ['UPDATE', 'User', DELETED],
      () => meanwhile.post(other),
    );
    if (SIDE_BY_SIDE) expect(answers).toEqual([303, answered]);
    // On SQLite the other one can come first; changing the password then ends the session that asks for the deletion.
    if ((await userRow(one, ann.id)).deletedAt) await expectNothingLeft(one, ann.id);
    else expect(await loginStatus(one, 'ann@example.com', NEW_PASSWORD)).toBe(303);
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

describe.runIf(SIDE_BY_SIDE)('while Stripe answers with the session of a new checkout', () => {
  const NOTED: Point = ['UPDATE', 'Checkout', 'NEW."sessionId" IS NOT NULL'];

  test('the account is not deleted, because nobody would close that checkout', async () => {
    const world = await startWorld();
    const ann = await signUp(world, 'ann@example.com');
    const answers = await race(
      world,
      () => postForm(world.app, '/api/billing/checkout', { plan: 'monthly' }, ann.cookie),
      NOTED,
      () => deleteAccount(world, ann),
    );
    expect(answers).toEqual([303, 409]);
    expect((await deleteAccount(world, ann)).statusCode).toBe(303);
    expect(openSessions(world)).toEqual([]);
  });

  test('an operator’s relink of its customer closes the checkout', async () => {
    const world = await startWorld(MAIL);
    const ann = await signUp(world, 'ann@example.com');
    const ben = await signUp(world, 'ben@example.com');
    await pressUpgrade(world, ann, 'monthly');
    const [customer = ''] = world.sandbox.objects.customers.keys();
    const { arrived, blocked, open } = await holdBefore(world, ...NOTED);
    const opened = pressUpgrade(world, ann, 'annual');
    await arrived();
    const moved = relink(commandContext(world, MAIL), customer, ben.id, 'wrong account');
    await blocked();
    await open();
    expect(await opened).toContain('/checkout/');
    await moved;
    await (await startTestSender(world)).wake();
    expect(openSessions(world)).toEqual([]);
  });
});

describe('an address is proven while', () => {
  const NEW = 'new@example.com';
  const MOVED = 'NEW."email" <> OLD."email"';
  /** The write that shows the address has changed. */
  const ADDRESS_CHANGED: Point = ['INSERT', 'OutboxItem', `NEW."kind" = 'mail.address-changed'`];

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

  test('the account is deleted, the deletion first: the address stays free', async () => {
    const { one, other, ann, proof } = await annWantsAnother();
    const answers = await race(
      one,
      () => deleteAccount(one, ann),
      ['UPDATE', 'User', 'NEW."deletedAt" IS NOT NULL'],
      () => proof.post(other),
    );
    if (SIDE_BY_SIDE) expect(answers).toEqual([303, 404]);
    // Proving the address ends the session that asks for the deletion.
    const { deletedAt, email } = await userRow(one, ann.id);
    expect(email).toBe(deletedAt ? null : NEW);
    await expectSound(one);
  });

  test('the account is deleted, the proof first: the deletion stands, or is refused', async () => {
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
      ADDRESS_CHANGED,
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
      ADDRESS_CHANGED,
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
    'the account that holds it pays, %s: an account that has paid is never deleted',
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
    'the account that holds it proves it by a reset link, %s: exactly one account keeps it',
    async (order) => {
      const { one, other, ann, holder, proof } = await withHolder();
      await postForm(one.app, '/forgot', { email: NEW });
      const mail = await until(async () => (await outbox(one, 'mail.reset-password'))[0]);
      const reset = posting(resetPathOf(one, mail), { password: NEW_PASSWORD });
      const answers =
        order === 'the reset first'
          ? await raceTheReset(one, reset, other, proof)
          : await race(
              one,
              () => proof.post(one),
              ['UPDATE', 'User', 'NEW."deletedAt" IS NOT NULL'],
              () => reset.post(other),
            );
      if (SIDE_BY_SIDE) expect(answers).toEqual(order === 'the reset first' ? [303, 409] : [200, 404]);
      const kept = (await userRow(one, holder.id)).deletedAt === null;
      expect(await emailOf(one, ann)).toBe(kept ? 'ann@example.com' : NEW);
      expect(await loginStatus(one, NEW, NEW_PASSWORD)).toBe(kept ? 303 : 401);
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
  const answers = await raceTheReset(one, first, other, second);
  expect(answers.toSorted()).toEqual([303, 404]);
  expect(
    await loginStatus(one, 'ann@example.com', answers[0] === 303 ? NEW_PASSWORD : 'another staple'),
  ).toBe(303);
  expect(await outbox(one, 'mail.password-changed')).toHaveLength(1);
});

test('an address is changed twice at once: every former one that counts is kept', async () => {
  const { one, other, ann } = await annOnTwoServers();
  const stripe = buyer(ann.id);
  await deliverAll(one, [stripe.checkoutCompleted(), stripe.created()]);
  const change = (email: string) =>
    posting('/settings/address', { email, currentPassword: PASSWORD }, ann.cookie);
  const [first, second] = [change('first@example.com'), change('second@example.com')];
  const answers = await race(
    one,
    () => first.post(one),
    ['UPDATE', 'User', 'NEW."email" <> OLD."email"'],
    () => second.post(other),
  );
  expect(answers).toEqual([303, 303]);
  const { emailHash } = await one.db.user.findUniqueOrThrow({ where: { id: ann.id } });
  const former = await one.db.formerAddress.findMany({ where: { userId: ann.id } });
  // The address in between was held without a payment, so it does not count.
  expect(former).toHaveLength(1);
  expect(former.map((row) => row.emailHash)).not.toContain(emailHash);
  const again = await signUp(one, 'ann+again@example.com');
  const row = await one.db.user.findUniqueOrThrow({ where: { id: again.id } });
  expect(former.map((one) => one.emailHash)).toEqual([row.emailHash]);
});
