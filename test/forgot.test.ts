import { randomUUID } from 'node:crypto';

import { Stripe } from 'stripe';
import { describe, expect, test, vi } from 'vitest';

import { relink } from '../src/operator/relink.ts';
import { commandContext, operatorResetPath } from './support/command-context.ts';
import { expectSound } from './support/findings.ts';
import { startMailServer } from './support/mail-server.ts';
import { askFor, MAIL, outbox, prove, provePath, resetPathOf } from './support/mail.ts';
import { until } from './support/process.ts';
import { mailEnv, startTestSender } from './support/sender.ts';
import {
  clientOf,
  cookiesOf,
  DAY,
  daysAfter,
  deleteAccount,
  deliverAll,
  logIn,
  loginStatus,
  PASSWORD,
  postForm,
  postFrom,
  signUp,
  START,
  startTestServer,
  userRow,
} from './support/server.ts';
import type { Person, TestServer } from './support/server.ts';
import {
  aroundExpiry,
  beforeCancellation,
  deliverWaiting,
  letBankDecide,
  passTime,
  paymentOf,
  pressUpgrade,
  sessionIdOf,
  startWorld,
  subscribe,
} from './support/stand-in.ts';
import type { World } from './support/stand-in.ts';
import { buyer } from './support/stripe-events.ts';

const NEW_PASSWORD = 'battery staple';

/** Asks for a link, and waits until `mails` reset emails have been queued in all. */
async function forgot(server: TestServer, email: string, mails: number) {
  const answer = await postForm(server.app, '/forgot', { email });
  expect(answer.statusCode).toBe(200);
  return until(async () => {
    const items = await outbox(server, 'mail.reset-password');
    return items.length === mails ? items : undefined;
  });
}

/** What the sender does with all mail that is queued. */
async function sendAll({ db, clock }: TestServer): Promise<void> {
  const sent = { status: 'done', address: null, endedAt: clock.now };
  await db.outboxItem.updateMany({ where: { status: 'queued' }, data: sent });
}

/** Checks that the latest requests queue no mail: makes one more and waits for its email, which comes last. */
async function expectNoMail(server: TestServer): Promise<void> {
  const email = `${randomUUID()}@example.com`;
  const last = await signUp(server, email);
  await server.db.user.update({ where: { email }, data: { emailProvenAt: server.clock.now } });
  const before = (await outbox(server, 'mail.reset-password')).length;
  await postForm(server.app, '/forgot', { email });
  await until(async () => {
    const found = await server.db.outboxItem.count({
      where: { userId: last.id, kind: 'mail.reset-password' },
    });
    return found > 0 || undefined;
  });
  await server.db.outboxItem.deleteMany({ where: { userId: last.id } });
  expect((await outbox(server, 'mail.reset-password')).length).toBe(before);
}

const pathOf = async (server: TestServer): Promise<string> => {
  const [mail] = await forgot(server, 'ann@example.com', 1);
  return mail ? resetPathOf(server, mail) : '';
};

/** A person who has set a new password by a link, and is logged in with it. */
async function ownerOf(server: TestServer, person: Person): Promise<Person> {
  return { ...person, cookie: cookiesOf(await logIn(server, 'ann@example.com', NEW_PASSWORD)) };
}

/** Proves an account's address now. */
const proven = ({ db, clock }: TestServer, { id }: Person) =>
  db.user.update({ where: { id }, data: { emailProvenAt: clock.now } });

/** The invoice of the plan that a person buys after a reset. */
async function nextInvoice(world: World, person: Person) {
  await subscribe(world, await ownerOf(world, person));
  const [invoice] = (await world.merchant.invoices.list({ limit: 1 })).data;
  const { starting_balance, amount_paid, currency } = invoice ?? {};
  return { starting_balance, amount_paid, currency };
}

const changePassword = ({ app }: TestServer, { cookie }: Person) =>
  postForm(app, '/settings/password', { currentPassword: PASSWORD, newPassword: 'another staple' }, cookie);

describe('without mail', () => {
  test('the page says whom to ask, and nothing is queued', async () => {
    const server = await startTestServer();
    await signUp(server, 'ann@example.com');
    expect((await server.app.inject({ url: '/login' })).body).toContain('href="/forgot"');
    const page = await server.app.inject({ url: '/forgot' });
    expect(page.statusCode).toBe(200);
    expect(page.body).toContain('Ask the people who run Tandem');
    expect(page.body).not.toContain('<form');
    const answer = await postForm(server.app, '/forgot', { email: 'ann@example.com' });
    expect(answer.body).toBe(page.body);
    expect(await server.db.resetLink.count()).toBe(0);
    expect(await outbox(server)).toEqual([]);
  });

  test('the page names the address where help is found, if there is one', async () => {
    const { app } = await startTestServer({ CONTACT_EMAIL: 'help@example.com' });
    expect((await app.inject({ url: '/forgot' })).body).toContain('href="mailto:help@example.com"');
  });
});

describe('asking for a reset link', () => {
  test('is answered alike whether or not there is such an account', async () => {
    const server = await startTestServer(MAIL);
    await signUp(server, 'ann@example.com');
    const answers = [];
    for (const email of ['ann@example.com', 'bob@example.com', ' ANN@example.com'])
      answers.push(await postForm(server.app, '/forgot', { email }));
    const told = answers.map(({ statusCode, headers, body }) => ({
      statusCode,
      headers: { ...headers, date: '' },
      body: body.replaceAll(/(ann|bob)@example\.com/g, 'x@example.com'),
    }));
    expect(told[0]?.statusCode).toBe(200);
    expect(told[0]?.body).toContain('If there is an account');
    expect(told[1]).toEqual(told[0]);
    expect(told[2]).toEqual(told[0]);
  });

  test('is answered before anything is written, so that the time tells nothing either', async () => {
    const server = await startTestServer(MAIL);
    await signUp(server, 'ann@example.com');
    const transaction = server.db.$transaction.bind(server.db) as (...args: unknown[]) => Promise<unknown>;
    let letGo = (): void => undefined;
    const isOver = new Promise<void>((resolve) => (letGo = resolve));
    vi.spyOn(server.db, '$transaction').mockImplementation(async (...args: unknown[]) => {
      await isOver;
      return transaction(...args);
    });
    const answer = await postForm(server.app, '/forgot', { email: 'ann@example.com' });
    expect(answer.statusCode).toBe(200);
    expect(answer.body).toContain('If there is an account');
    expect(await outbox(server)).toEqual([]);
    letGo();
    await until(async () => (await outbox(server)).length === 1 || undefined);
  });

  test('gets a link that sets a new password, once, and is not stored', async () => {
    const server = await startTestServer(MAIL);
    const ann = await signUp(server, 'ann@example.com');
    const [item] = await forgot(server, 'ann@example.com', 1);
    if (!item) throw new Error('no mail');
    expect(item).toMatchObject({ userId: ann.id, address: ann.email, data: 'null', status: 'queued' });
    const path = resetPathOf(server, item);
    const rows = JSON.stringify([await outbox(server), await server.db.resetLink.findMany()]);
    expect(rows).not.toContain(path.split('/').at(-1));

    expect((await server.app.inject({ url: path })).statusCode).toBe(200);
    const answer = await postForm(server.app, path, { password: NEW_PASSWORD });
    expect([answer.statusCode, answer.headers.location]).toEqual([303, '/login']);
    expect((await postForm(server.app, path, { password: 'another staple' })).statusCode).toBe(404);
    expect(await loginStatus(server, 'ann@example.com', NEW_PASSWORD)).toBe(303);
    expect(await outbox(server, 'mail.password-changed')).toMatchObject([{ userId: ann.id }]);
  });

  test('does not void the link that an operator handed out', async () => {
    const server = await startTestServer(MAIL);
    await signUp(server, 'ann@example.com');
    const path = await operatorResetPath(server);
    await forgot(server, 'ann@example.com', 1);
    expect((await postForm(server.app, path, { password: NEW_PASSWORD })).statusCode).toBe(303);
  });

  test('brings a link that still claims the account after an operator handed out others and one was used', async () => {
    const server = await startTestServer(MAIL);
    const ann = await signUp(server, 'ann@example.com');
    const mailed = await pathOf(server);
    const handedOut = [await operatorResetPath(server), await operatorResetPath(server)];
    const statuses = [];
    for (const path of handedOut)
      statuses.push((await postForm(server.app, path, { password: 'a stranger’s staple' })).statusCode);
    expect(statuses).toEqual([404, 303]);
    expect((await postForm(server.app, mailed, { password: NEW_PASSWORD })).statusCode).toBe(303);
    expect(await server.db.user.findUnique({ where: { id: ann.id } })).toMatchObject({
      emailProvenAt: server.clock.now,
    });
    expect(await server.db.resetLink.count({ where: { used: false } })).toBe(0);
  });

  test('after five emails in a day to an unproven address leaves the mailed links working', async () => {
    const server = await startTestServer(MAIL);
    const ann = await signUp(server, 'ann@example.com');
    const [first] = await forgot(server, 'ann@example.com', 1);
    const { clock } = server;
    const sent = { userId: ann.id, data: 'null', status: 'queued', createdAt: clock.now, dueAt: clock.now };
    await server.db.outboxItem.createMany({
      data: [1, 2, 3, 4].map((n) => ({ ...sent, id: `sent ${n}`, kind: 'mail.prove-address' })),
    });
    await sendAll(server);
    // The server's own counters do not know the four inserted emails, as after a restart.
    await postForm(server.app, '/forgot', { email: 'ann@example.com' });
    await expectNoMail(server);
    const path = first ? resetPathOf(server, first) : '';
    expect((await postForm(server.app, path, { password: NEW_PASSWORD })).statusCode).toBe(303);
  });

  test('again, while nobody has claimed the account, leaves older links working; using one ends them all', async () => {
    const server = await startTestServer(MAIL);
    await signUp(server, 'ann@example.com');
    await forgot(server, 'ann@example.com', 1);
    await sendAll(server);
    server.clock.now = new Date(server.clock.now.getTime() + 1000);
    const paths = (await forgot(server, 'ann@example.com', 2)).map((item) => resetPathOf(server, item));
    const statuses = () =>
      Promise.all(paths.map(async (url) => (await server.app.inject({ url })).statusCode));
    expect(await statuses()).toEqual([200, 200]);
    expect((await postForm(server.app, paths[0] ?? '', { password: NEW_PASSWORD })).statusCode).toBe(303);
    expect(await statuses()).toEqual([404, 404]);
  });

  test('gets a link that works for an hour, and ends with a newer one', async () => {
    const server = await startTestServer(MAIL);
    const ann = await signUp(server, 'ann@example.com');
    await server.db.user.update({ where: { id: ann.id }, data: { emailProvenAt: START } });
    const [first] = await forgot(server, 'ann@example.com', 1);
    await sendAll(server);
    server.clock.now = new Date(server.clock.now.getTime() + 1000);
    const [, second] = await forgot(server, 'ann@example.com', 2);
    if (!first || !second) throw new Error('no mails');
    expect((await server.app.inject({ url: resetPathOf(server, first) })).statusCode).toBe(404);
    expect((await server.app.inject({ url: resetPathOf(server, second) })).statusCode).toBe(200);
    server.clock.now = new Date(server.clock.now.getTime() + 3_600_000);
    const late = await server.app.inject({ url: resetPathOf(server, second) });
    expect(late.statusCode).toBe(404);
    expect(late.body).toContain('href="/forgot"');
  });

  test('keeps what was typed when it is not an address', async () => {
    const server = await startTestServer(MAIL);
    const answer = await postForm(server.app, '/forgot', { email: '"><b>ann' });
    expect(answer.statusCode).toBe(400);
    expect(answer.body).toContain('value="&quot;&gt;&lt;b&gt;ann"');
    expect(answer.body).toContain('Enter an email address');
  });

  test('is possible 30 times for one client, whatever the address', async () => {
    const server = await startTestServer(MAIL);
    const ask = (n: number, from: string) =>
      postFrom(server, '/forgot', from, { email: `nobody${n}@example.com` });
    for (let n = 0; n < 30; n += 1) expect((await ask(n, '192.0.2.1')).statusCode).toBe(200);
    const refused = await ask(30, '192.0.2.1');
    expect(refused.statusCode).toBe(429);
    expect(refused.headers['retry-after']).toBeDefined();
    expect(refused.body).toContain('value="nobody30@example.com"');
    expect((await ask(31, '192.0.2.2')).statusCode).toBe(200);
  });

  test('brings five emails within the hour, and then the same answer without an email', async () => {
    const server = await startTestServer(MAIL);
    await signUp(server, 'ann@example.com');
    await server.db.user.updateMany({ data: { emailProvenAt: server.clock.now } });
    for (let n = 1; n <= 5; n += 1) await forgot(server, 'ann@example.com', n);
    const sixth = await postFrom(server, '/forgot', '192.0.2.7', { email: 'ann@example.com' });
    expect(sixth.statusCode).toBe(200);
    expect(sixth.body).toContain('If there is an account');
    await expectNoMail(server);
    expect(await outbox(server, 'mail.reset-password')).toHaveLength(5);
  });

  test('brings no more than five emails a day to an unproven address, the one of the sign-up included', async () => {
    const server = await startTestServer(MAIL);
    await postForm(server.app, '/signup', { email: 'ann@example.com', password: PASSWORD });
    for (let n = 1; n <= 4; n += 1) {
      await forgot(server, 'ann@example.com', n);
      await sendAll(server);
    }
    expect((await postForm(server.app, '/forgot', { email: 'ann@example.com' })).statusCode).toBe(200);
    await expectNoMail(server);
    expect(await outbox(server)).toHaveLength(5);
  });

  test('brings an email although a stranger signed up with variants of the address all day', async () => {
    const server = await startTestServer(MAIL);
    await postForm(server.app, '/signup', { email: 'ann@example.com', password: PASSWORD });
    for (let n = 0; n < 10; n += 1) {
      const typed = { email: `ann+${n}@example.com`, password: NEW_PASSWORD };
      await postFrom(server, '/signup', '192.0.2.9', typed);
    }
    expect(await outbox(server)).toHaveLength(3);
    await forgot(server, 'ann@example.com', 1);
    await expectNoMail(server);
    expect(await outbox(server, 'mail.reset-password')).toHaveLength(1);
  });

  test.each([
    ["Ann's account is older", false],
    ["Ann's account has paid", true],
  ])(
    'brings an email although a stranger keeps asking for links to a variant of the address: %s',
    async (_why, pays) => {
      const server = await startTestServer(MAIL);
      const names = pays
        ? ['ann+x@example.com', 'ann@example.com']
        : ['ann@example.com', 'ann+x@example.com'];
      for (const name of names) {
        await signUp(server, name);
        server.clock.now = new Date(server.clock.now.getTime() + 1000);
      }
      const ann = await server.db.user.findUniqueOrThrow({ where: { email: 'ann@example.com' } });
      const stripe = buyer(ann.id);
      if (pays)
        await deliverAll(server, [stripe.checkoutCompleted(), stripe.created(), stripe.invoicePaid()]);
      for (let n = 1; n <= 3; n += 1) {
        await forgot(server, 'ann+x@example.com', n);
        await sendAll(server);
      }
      await postForm(server.app, '/forgot', { email: 'ann+x@example.com' });
      await expectNoMail(server);
      expect(await outbox(server, 'mail.reset-password')).toHaveLength(3);
      await forgot(server, 'ann@example.com', 4);
    },
  );

  test('brings an email although a stranger asks for many others at the same moment', async () => {
    const server = await startTestServer(MAIL);
    await signUp(server, 'ann@example.com');
    server.clock.now = new Date(server.clock.now.getTime() + 1000);
    const stranger = await signUp(server, 'ann+x@example.com');
    const again = () => postForm(server.app, '/settings/verify', {}, stranger.cookie);
    // The three emails of the day that are not reserved.
    for (let n = 1; n <= 3; n += 1) expect((await again()).statusCode).toBe(303);
    const burst = Array.from({ length: 15 }, again);
    await forgot(server, 'ann@example.com', 1);
    for (const { statusCode } of await Promise.all(burst)) expect(statusCode).toBe(429);
  });

  test('again for an unproven address, while an email waits to be sent, neither replaces it nor counts as another one', async () => {
    const server = await startTestServer(MAIL);
    // Three of the day's emails.
    for (const email of ['ann@example.com', 'ann+1@example.com', 'ann+2@example.com'])
      await postForm(server.app, '/signup', { email, password: PASSWORD });
    for (let n = 1; n <= 3; n += 1) {
      await forgot(server, 'ann@example.com', 1);
      await expectNoMail(server);
    }
    await sendAll(server);
    await forgot(server, 'ann@example.com', 2);
  });

  test('queues its mail even if the server closes meanwhile', async () => {
    const server = await startTestServer(MAIL);
    await signUp(server, 'ann@example.com');
    await postForm(server.app, '/forgot', { email: 'ann@example.com' });
    await server.app.close();
    expect(await outbox(server, 'mail.reset-password')).toHaveLength(1);
  });
});

describe('a reset link that was mailed', () => {
  test('past the limit, keeps the warning of its form, and an unknown link stays unknown', async () => {
    const server = await startTestServer(MAIL);
    await squatter(server);
    const path = await pathOf(server);
    const use = (where: string, password: string) => postFrom(server, where, '192.0.2.1', { password });
    for (let n = 0; n < 30; n += 1) expect((await use(path, 'short')).statusCode).toBe(400);
    const refused = await use(path, NEW_PASSWORD);
    expect(refused.statusCode).toBe(429);
    expect(refused.body).toContain('Nobody has confirmed');
    const unknown = await use('/reset/unknown', NEW_PASSWORD);
    expect(unknown.statusCode).toBe(429);
    expect(unknown.body).not.toContain('name="password"');
  });

  /** Somebody who signed up with Ann's address, by a friend's code, and has backups. */
  async function squatter(server: TestServer) {
    const friend = await signUp(server, 'friend@example.com');
    const person = await signUp(server, 'ann@example.com', friend.code);
    await server.db.backup.create({
      data: { id: 'b1', userId: person.id, number: 1, document: '{}', createdAt: server.clock.now },
    });
    return { friend, person };
  }

  const rowsOf = async ({ db }: TestServer, userId: string) => ({
    backups: await db.backup.count({ where: { userId } }),
    referrals: await db.referral.count({ where: { referredId: userId } }),
    sessions: await db.session.count({ where: { userId } }),
  });

  test('proves the address, and empties an account that nobody had proven or paid for', async () => {
    const server = await startTestServer(MAIL);
    const { person } = await squatter(server);
    await server.db.user.update({ where: { id: person.id }, data: { mailOff: true } });
    const path = await pathOf(server);
    expect((await server.app.inject({ url: path })).body).toContain(
      'Nobody has confirmed this account’s address',
    );
    expect((await postForm(server.app, path, { password: NEW_PASSWORD })).statusCode).toBe(303);
    expect(await server.db.user.findUnique({ where: { id: person.id } })).toMatchObject({
      emailProvenAt: server.clock.now,
      mailOff: false,
    });
    expect(await rowsOf(server, person.id)).toEqual({ backups: 0, referrals: 0, sessions: 0 });
    expect(await loginStatus(server, 'ann@example.com', PASSWORD)).toBe(401);
  });

  test('of an account that is emptied closes its checkout, and captures the invitation that the browser remembers', async () => {
    const server = await startTestServer(MAIL);
    const { person } = await squatter(server);
    const other = await signUp(server, 'other@example.com');
    const checkout = { userId: person.id, id: 'key', plan: 'monthly', priceId: 'price_m', trialDays: 0 };
    await server.db.checkout.create({
      data: { ...checkout, sessionId: 'cs_open', createdAt: server.clock.now },
    });
    const path = await pathOf(server);
    await postForm(server.app, path, { password: NEW_PASSWORD }, `tandem_ref=${other.code}`);
    expect(await server.db.referral.findMany()).toMatchObject([
      { referredId: person.id, referrerId: other.id, convertedAt: null },
    ]);
    // If it is paid already, nothing more must be sold until its webhook comes.
    expect(await server.db.checkout.count()).toBe(1);
    expect(await server.db.outboxItem.findMany({ where: { kind: 'stripe.expire-checkout' } })).toMatchObject([
      { userId: person.id, data: '{"sessionId":"cs_open"}' },
    ]);
  });

  test('of an account that is emptied captures no invitation of somebody whom it invited itself', async () => {
    const server = await startTestServer(MAIL);
    const { person } = await squatter(server);
    const invited = await signUp(server, 'invited@example.com', person.code);
    const path = await pathOf(server);
    await postForm(server.app, path, { password: NEW_PASSWORD }, `tandem_ref=${invited.code}`);
    expect(await server.db.referral.findMany()).toMatchObject([
      { referredId: invited.id, referrerId: person.id },
    ]);
  });

  test('of an account that has converted and lost its customer to another account keeps its referral', async () => {
    const server = await startTestServer(MAIL);
    const { friend, person } = await squatter(server);
    const other = await signUp(server, 'other@example.com');
    await server.db.referral.updateMany({
      data: { convertedAt: server.clock.now, creditedAt: server.clock.now, referredHash: 'x' },
    });
    const path = await pathOf(server);
    const answer = await postForm(server.app, path, { password: NEW_PASSWORD }, `tandem_ref=${other.code}`);
    expect(answer.statusCode).toBe(303);
    expect(await server.db.referral.findMany()).toMatchObject([
      { referredId: person.id, referrerId: friend.id },
    ]);
  });

  describe('of an account that nobody had proven', () => {
    /** A world in which a stranger holds the address, and a link that its owner was mailed. */
    async function claim() {
      const world = await startWorld(MAIL);
      const { person } = await squatter(world);
      const backups = async () => (await rowsOf(world, person.id)).backups;
      const use = async (path: string) => postForm(world.app, path, { password: NEW_PASSWORD });
      return { world, person, backups, use };
    }

    test('does not empty it when it is paid for just as its checkout is closed', async () => {
      const { world, person, backups, use } = await claim();
      const session = sessionIdOf(await pressUpgrade(world, person));
      const path = await pathOf(world);
      aroundExpiry(world, { before: () => world.sandbox.acts.pay(session) });
      expect((await use(path)).statusCode).toBe(303);
      expect(await backups()).toBe(1);
      await deliverWaiting(world);
      expect(await userRow(world, person.id)).toMatchObject({ tier: 'paid' });
    });

    test('ends a first payment that the bank has yet to approve, or waits for a bank that is about to approve it', async () => {
      const { world, person, backups, use } = await claim();
      await subscribe(world, person, { outcome: 'incomplete' });
      const path = await pathOf(world);
      letBankDecide(world);
      const early = await use(path);
      expect([early.statusCode, early.body]).toEqual([
        409,
        expect.stringContaining('a payment for this account is still being processed.'),
      ]);
      expect(await backups()).toBe(1);
      // Nobody gets in before the account is emptied.
      expect(await loginStatus(world, 'ann@example.com', PASSWORD)).toBe(401);
      expect(await loginStatus(world, 'ann@example.com', NEW_PASSWORD)).toBe(401);
      expect((await use(path)).statusCode).toBe(303);
      expect(await backups()).toBe(0);
      expect(await loginStatus(world, 'ann@example.com', NEW_PASSWORD)).toBe(303);
      const invoices = [...world.sandbox.objects.invoices.values()];
      expect(invoices.map(({ status }) => status)).toEqual(['void']);
    });

    test.each([
      ['', true],
      [' that we have not heard of yet', false],
    ])(
      'cancels a trial%s, and leaves the trial to the owner, for another customer',
      async (_which, isKnown) => {
        const world = await startWorld({ ...MAIL, STRIPE_TRIAL_DAYS: '7' });
        const { person } = await squatter(world);
        const trial = await subscribe(world, person);
        if (isKnown) await deliverWaiting(world);
        expect(await userRow(world, person.id)).toMatchObject({ tier: isKnown ? 'trial' : 'free' });
        const path = await pathOf(world);
        expect((await world.app.inject({ url: path })).body).toContain(
          'any plan that has not been paid for is cancelled',
        );
        expect((await postForm(world.app, path, { password: NEW_PASSWORD })).statusCode).toBe(303);
        const { subscriptions, customers } = world.sandbox.objects;
        expect(subscriptions.get(trial)).toMatchObject({ status: 'canceled' });
        await deliverWaiting(world);

        // The stranger's card and address are none of the owner's business.
        const owner = await ownerOf(world, person);
        const settings = await world.app.inject({ url: '/settings', headers: { cookie: owner.cookie } });
        expect(settings.body).not.toContain('See your invoices');
        const portal = await postForm(world.app, '/api/billing/portal', {}, owner.cookie);
        expect(portal.headers.location).toContain('/pricing');

        const own = await subscribe(world, owner);
        await deliverWaiting(world);
        expect(subscriptions.get(own)).toMatchObject({ status: 'trialing' });
        expect(await userRow(world, person.id)).toMatchObject({ tier: 'trial' });
        expect(customers.size).toBe(2);
        await expectSound(world);
      },
    );

    test('asks Stripe again when another customer was linked meanwhile', async () => {
      const { world, person, use } = await claim();
      await pressUpgrade(world, person);
      const path = await pathOf(world);
      const { invoices, subscriptions } = clientOf(world);
      const asked = vi.spyOn(subscriptions, 'list');
      const list = invoices.list.bind(invoices);
      const { id } = await world.merchant.customers.create({ email: 'payer@example.com' });
      vi.spyOn(invoices, 'list')
        .mockImplementationOnce(list)
        .mockImplementationOnce(((query?: Stripe.InvoiceListParams) =>
          world.db.customer
            .create({ data: { id, userId: person.id } })
            .then(() => list(query))) as unknown as typeof list);
      expect((await use(path)).statusCode).toBe(303);
      expect(asked.mock.calls.map(([query]) => query?.customer)).toContain(id);
    });

    test('keeps an account whose trial is charged just before it is cancelled', async () => {
      const world = await startWorld({ ...MAIL, STRIPE_TRIAL_DAYS: '7' });
      const { person } = await squatter(world);
      await subscribe(world, person);
      await deliverWaiting(world);
      const path = await pathOf(world);
      beforeCancellation(world, () => passTime(world, 8 * DAY));
      expect((await postForm(world.app, path, { password: NEW_PASSWORD })).statusCode).toBe(303);
      expect((await rowsOf(world, person.id)).backups).toBe(1);
    });

    test('keeps a customer who subscribes to another product in the same Stripe account', async () => {
      const world = await startWorld({ ...MAIL, STRIPE_TRIAL_DAYS: '7', STRIPE_PRODUCTS: 'prod_ours' });
      const { person } = await squatter(world);
      const other = await subscribe(world, person);
      await deliverWaiting(world);
      const path = await pathOf(world);
      expect((await postForm(world.app, path, { password: NEW_PASSWORD })).statusCode).toBe(303);
      const { subscriptions, customers } = world.sandbox.objects;
      expect(subscriptions.get(other)).toMatchObject({ status: 'trialing' });
      expect([...customers.values()].some((one) => 'deleted' in one)).toBe(false);
    });

    test('changes nothing when Stripe cannot be reached, and says so', async () => {
      const { world, person, backups, use } = await claim();
      await pressUpgrade(world, person);
      const path = await pathOf(world);
      const lost = new Stripe.errors.StripeConnectionError({ message: 'lost', type: 'api_error' });
      vi.spyOn(clientOf(world).checkout.sessions, 'expire').mockRejectedValueOnce(lost);
      const answer = await use(path);
      expect([answer.statusCode, answer.body]).toEqual([
        502,
        expect.stringContaining('Your password was not changed. Please try again in a moment.'),
      ]);
      expect(await backups()).toBe(1);
      expect((await use(path)).statusCode).toBe(303);
    });

    test('shuts out whoever holds it before the closed checkout could warn them', async () => {
      const { world, person, backups, use } = await claim();
      await pressUpgrade(world, person);
      await askFor(world, person, 'own@example.com');
      const leave = await provePath(world, person);
      const path = await pathOf(world);
      const tried: number[] = [];
      aroundExpiry(world, {
        after: async () => {
          tried.push((await postForm(world.app, leave, {})).statusCode);
          const upgrade = await postForm(
            world.app,
            '/api/billing/checkout',
            { plan: 'annual' },
            person.cookie,
          );
          tried.push(upgrade.statusCode);
          tried.push(await loginStatus(world, 'ann@example.com', PASSWORD));
        },
      });
      expect((await use(path)).statusCode).toBe(303);
      expect(tried).toEqual([404, 401, 401]);
      expect(await backups()).toBe(0);
      expect(await loginStatus(world, 'ann@example.com', NEW_PASSWORD)).toBe(303);
    });

    /** Gives the account another checkout while Stripe is asked, as a request does that had begun before. */
    async function openAnother({ db, clock }: World, userId: string): Promise<void> {
      const fresh = { id: randomUUID(), sessionId: null, createdAt: clock.now };
      const checkout = { plan: 'annual', priceId: 'price_a', trialDays: 0, ...fresh };
      await db.checkout.upsert({ where: { userId }, create: { userId, ...checkout }, update: checkout });
    }

    test.each([
      { times: 2, status: 303, left: 0 },
      { times: 3, status: 409, left: 1 },
    ])('when $times checkouts are opened meanwhile is answered $status', async ({ times, status, left }) => {
      const { world, person, backups, use } = await claim();
      await pressUpgrade(world, person);
      const path = await pathOf(world);
      const { invoices } = clientOf(world);
      const list = invoices.list.bind(invoices);
      const asked = vi.spyOn(invoices, 'list');
      for (let time = 0; time < times; time += 1)
        asked.mockImplementationOnce(((query?: Stripe.InvoiceListParams) =>
          openAnother(world, person.id).then(() => list(query))) as unknown as typeof list);
      const answer = await use(path);
      expect(answer.statusCode).toBe(status);
      expect(answer.body.includes('a payment for this account was started just now')).toBe(status === 409);
      expect(await backups()).toBe(left);
      if (status === 409) expect((await use(path)).statusCode).toBe(303);
      expect(await backups()).toBe(0);
    });
  });

  test('leaves the account of somebody who paid as it is', async () => {
    const server = await startTestServer(MAIL);
    const { person, friend } = await squatter(server);
    const stripe = buyer(person.id);
    await deliverAll(server, [stripe.checkoutCompleted(), stripe.created(), stripe.invoicePaid()]);
    const path = await pathOf(server);
    expect((await server.app.inject({ url: path })).body).not.toContain('Nobody has confirmed');
    expect((await postForm(server.app, path, { password: NEW_PASSWORD })).statusCode).toBe(303);
    expect(await rowsOf(server, person.id)).toEqual({ backups: 1, referrals: 1, sessions: 0 });
    expect(await server.db.user.findUnique({ where: { id: friend.id } })).toMatchObject({
      creditUntil: daysAfter(45),
    });
  });

  test('of an account whose only payment went back sells the next plan to a new customer, so that an old portal page is useless', async () => {
    const world = await startWorld(MAIL);
    const { person } = await squatter(world);
    const first = await subscribe(world, person);
    await world.merchant.refunds.create({ payment_intent: paymentOf(world, first) });
    await world.merchant.subscriptions.cancel(first);
    await deliverWaiting(world);
    const [stranger] = world.sandbox.objects.customers.keys();
    const path = await pathOf(world);
    expect((await postForm(world.app, path, { password: NEW_PASSWORD })).statusCode).toBe(303);
    await subscribe(world, await ownerOf(world, person));
    await deliverWaiting(world);
    expect(await userRow(world, person.id)).toMatchObject({ tier: 'paid' });
    const { customer } = [...world.sandbox.objects.subscriptions.values()].at(-1) ?? {};
    expect(customer).not.toBe(stranger);
    await expectSound(world);
  });

  test('of an account that somebody has paid for succeeds when Stripe cannot be reached', async () => {
    const world = await startWorld(MAIL);
    const { person } = await squatter(world);
    const stripe = buyer(person.id);
    await deliverAll(world, [stripe.checkoutCompleted(), stripe.created(), stripe.invoicePaid()]);
    const path = await pathOf(world);
    await world.sandbox.close();
    expect((await postForm(world.app, path, { password: NEW_PASSWORD })).statusCode).toBe(303);
    expect(await loginStatus(world, 'ann@example.com', NEW_PASSWORD)).toBe(303);
    expect(await world.db.customer.findFirst()).toMatchObject({ retiredAt: world.clock.now });
  });

  test('of an account whose paid plan is over closes its open checkout, so that nobody pays for its old customer', async () => {
    const world = await startWorld(mailEnv(await startMailServer()));
    const { person } = await squatter(world);
    const first = await subscribe(world, person);
    await world.merchant.subscriptions.cancel(first);
    await deliverWaiting(world);
    const session = sessionIdOf(await pressUpgrade(world, person));
    const path = await pathOf(world);
    expect((await postForm(world.app, path, { password: NEW_PASSWORD })).statusCode).toBe(303);
    await (await startTestSender(world)).wake();
    expect(world.sandbox.objects.checkouts.get(session)).toMatchObject({ status: 'expired' });
  });

  test('of an account with a plan that was paid for leaves the plan and its customer', async () => {
    const world = await startWorld(MAIL);
    const { person } = await squatter(world);
    const subscription = await subscribe(world, person);
    await deliverWaiting(world);
    const path = await pathOf(world);
    expect((await postForm(world.app, path, { password: NEW_PASSWORD })).statusCode).toBe(303);
    expect(world.sandbox.objects.subscriptions.get(subscription)).toMatchObject({ status: 'active' });
    expect([...world.sandbox.objects.customers.values()].some((one) => 'deleted' in one)).toBe(false);
    // Receipts go to the owner, whatever the stranger had changed in the portal.
    const { id: customerId } = await world.db.customer.findFirstOrThrow();
    expect(await outbox(world, 'stripe.customer-address')).toMatchObject([
      { userId: person.id, data: JSON.stringify({ customerId }) },
    ]);
  });

  describe('leaves a stranger who opened a customer at Stripe no page that shows the plan that the owner buys next:', () => {
    const useMailedLink = async (world: World) =>
      postForm(world.app, await pathOf(world), { password: NEW_PASSWORD });

    test.each<[string, (world: World, person: Person) => Promise<unknown>]>([
      [
        'a mailed link, while the plan goes on',
        async (world, person) => {
          const plan = await subscribe(world, person);
          await deliverWaiting(world);
          await useMailedLink(world);
          await world.merchant.subscriptions.cancel(plan);
        },
      ],
      [
        "an operator's link",
        async (world, person) => {
          await pressUpgrade(world, person);
          await postForm(world.app, await operatorResetPath(world), { password: NEW_PASSWORD });
        },
      ],
      [
        'a mailed link, when the customer was opened after the owner had proven the address',
        async (world, person) => {
          await proven(world, person);
          world.clock.now = new Date(world.clock.now.getTime() + 60_000);
          await pressUpgrade(world, person);
          await useMailedLink(world);
        },
      ],
      [
        'a mailed link, while a plan that was bought after the owner had proven the address goes on',
        async (world, person) => {
          await proven(world, person);
          world.clock.now = new Date(world.clock.now.getTime() + 60_000);
          const plan = await subscribe(world, person);
          await deliverWaiting(world);
          await useMailedLink(world);
          await world.merchant.subscriptions.cancel(plan);
        },
      ],
      [
        'a mailed link, after the owner had proven the address',
        async (world, person) => {
          await pressUpgrade(world, person);
          await proven(world, person);
          await useMailedLink(world);
        },
      ],
    ])('%s', async (_what, claim) => {
      const world = await startWorld(MAIL);
      const { person } = await squatter(world);
      await claim(world, person);
      await deliverWaiting(world);
      const [stranger] = world.sandbox.objects.customers.keys();
      const own = await subscribe(world, await ownerOf(world, person));
      await deliverWaiting(world);
      expect(await userRow(world, person.id)).toMatchObject({ tier: 'paid' });
      expect(world.sandbox.objects.subscriptions.get(own)?.customer).not.toBe(stranger);
      await expectSound(world);
    });
  });

  /** Somebody whose plan is over, who has a credit of $5 at Stripe, and who has just reset their password. */
  async function owed(env: NodeJS.ProcessEnv = MAIL) {
    const world = await startWorld(env);
    const ann = await signUp(world, 'ann@example.com');
    const plan = await subscribe(world, ann);
    const [old = ''] = world.sandbox.objects.customers.keys();
    await world.merchant.customers.createBalanceTransaction(old, { amount: -500, currency: 'usd' });
    // In the portal, by somebody who had the password.
    await world.merchant.customers.update(old, { email: 'thief@example.com' });
    await world.merchant.subscriptions.cancel(plan);
    await deliverWaiting(world);
    await postForm(world.app, await pathOf(world), { password: NEW_PASSWORD });
    const owner = await ownerOf(world, ann);
    const balances = () =>
      [...world.sandbox.objects.customers.values()].map((one) => ('deleted' in one ? 0 : one.balance));
    return { world, ann: owner, old, balances };
  }

  test("keeps the buyer's credit at Stripe for the next plan", async () => {
    const { world, ann, old } = await owed();
    const { currency, ...next } = await nextInvoice(world, ann);
    expect(next).toEqual({ starting_balance: -500, amount_paid: 400 });
    expect(currency).toBe('usd');
    expect(await world.merchant.customers.retrieve(old)).toMatchObject({ balance: 0 });
  });

  test('moves that credit once, even if another checkout is opened with another customer meanwhile', async () => {
    const { world, ann, balances } = await owed();
    const { customers } = clientOf(world);
    const move = customers.createBalanceTransaction.bind(customers);
    vi.spyOn(customers, 'createBalanceTransaction').mockImplementationOnce(async (...given) => {
      await world.db.checkout.deleteMany();
      await pressUpgrade(world, ann);
      return move(...given);
    });
    const create = customers.create.bind(customers);
    vi.spyOn(customers, 'create').mockImplementationOnce(async (...given) => {
      const created = await create(...given);
      await world.db.checkout.deleteMany();
      await pressUpgrade(world, ann);
      return created;
    });
    await pressUpgrade(world, ann);
    expect(balances().filter((balance) => balance !== 0)).toEqual([-500]);
    expect(await world.db.customer.count({ where: { userId: ann.id, retiredAt: null } })).toBe(1);
    await subscribe(world, ann);
    expect(balances().every((balance) => balance === 0)).toBe(true);
  });

  test.each([1, 2])('moves that credit once, even if step %i of it fails for days', async (step) => {
    const { world, ann, balances } = await owed();
    const { customers } = clientOf(world);
    const move = customers.createBalanceTransaction.bind(customers);
    const failing = vi.spyOn(customers, 'createBalanceTransaction');
    for (let n = 1; n < step; n += 1) failing.mockImplementationOnce(move);
    // Stripe does it, but its answer is lost.
    failing.mockImplementationOnce(async (...given) => {
      await move(...given);
      throw new Stripe.errors.StripeConnectionError({ message: 'lost', type: 'api_error' });
    });
    const tried = await postForm(world.app, '/api/billing/checkout', { plan: 'monthly' }, ann.cookie);
    expect(tried.statusCode).toBeGreaterThanOrEqual(500);
    // Stripe has forgotten the idempotency keys by then.
    await passTime(world, 2 * DAY);
    await pressUpgrade(world, ann);
    expect(balances()).toEqual([0, -500]);
  });

  test.each([1, 2])(
    'moves that credit although Stripe stored an error as its answer to step %i',
    async (step) => {
      const { world, ann, balances } = await owed();
      const { customers } = clientOf(world);
      const move = customers.createBalanceTransaction.bind(customers);
      const refused = new Set<string>();
      let calls = 0;
      vi.spyOn(customers, 'createBalanceTransaction').mockImplementation(async (id, params, options) => {
        calls += 1;
        const key = (options as Stripe.RequestOptions).idempotencyKey ?? '';
        if (calls === step) refused.add(key);
        if (refused.has(key))
          throw new Stripe.errors.StripeAPIError({ message: 'oops', type: 'api_error', statusCode: 500 });
        return move(id, params, options);
      });
      const tried = await postForm(world.app, '/api/billing/checkout', { plan: 'monthly' }, ann.cookie);
      expect(tried.statusCode).toBe(502);
      await pressUpgrade(world, ann);
      expect(balances()).toEqual([0, -500]);
    },
  );

  test.each([409, 429, 503])(
    'moves that credit once, even if Stripe answers %i to a second try while the first is under way',
    async (status) => {
      const { world, ann, balances } = await owed();
      const { customers } = clientOf(world);
      const move = customers.createBalanceTransaction.bind(customers);
      let arriveLate: () => Promise<unknown> = () => Promise.reject(new Error('no first try'));
      vi.spyOn(customers, 'createBalanceTransaction')
        .mockImplementationOnce((...given) => {
          arriveLate = () => move(...given);
          return Promise.reject(
            new Stripe.errors.StripeConnectionError({ message: 'timeout', type: 'api_error' }),
          );
        })
        .mockRejectedValueOnce(
          new Stripe.errors.StripeAPIError({ message: 'busy', type: 'api_error', statusCode: status }),
        );
      for (let n = 1; n <= 2; n += 1) {
        const tried = await postForm(world.app, '/api/billing/checkout', { plan: 'monthly' }, ann.cookie);
        expect(tried.statusCode).toBeGreaterThanOrEqual(500);
      }
      await pressUpgrade(world, ann);
      await arriveLate();
      expect(balances()).toEqual([0, -500]);
    },
  );

  test('leaves that credit where it is when the customer in use has another currency, and sells the plan', async () => {
    const { world, ann, old } = await owed();
    const { id } = await world.merchant.customers.create({ email: 'ann@example.com' });
    await world.merchant.customers.createBalanceTransaction(id, { amount: 100, currency: 'eur' });
    await world.db.customer.create({ data: { id, userId: ann.id, ours: true } });
    await pressUpgrade(world, ann);
    expect(await world.merchant.customers.retrieve(old)).toMatchObject({ balance: -500 });
    expect(await world.merchant.customers.retrieve(id)).toMatchObject({ balance: 100 });
  });

  test('moves that credit to a later customer when the one that was to get it has another currency and is retired too', async () => {
    const { world, ann, balances } = await owed();
    const { id } = await world.merchant.customers.create({ email: 'ann@example.com' });
    await world.merchant.customers.createBalanceTransaction(id, { amount: 100, currency: 'eur' });
    await world.db.customer.create({ data: { id, userId: ann.id, ours: true } });
    await pressUpgrade(world, ann);
    await world.db.customer.update({ where: { id }, data: { retiredAt: world.clock.now } });
    await world.db.checkout.deleteMany();
    await pressUpgrade(world, ann);
    expect(balances()).toEqual([0, 100, -500]);
  });

  test('moves that credit at once when the customer chosen by a checkout that failed has another currency', async () => {
    const { world, ann, old, balances } = await owed();
    const { id } = await world.merchant.customers.create({ email: 'ann@example.com' });
    await world.merchant.customers.createBalanceTransaction(id, { amount: 100, currency: 'eur' });
    await world.db.customer.create({ data: { id, userId: ann.id, ours: true, retiredAt: world.clock.now } });
    await world.db.customer.update({ where: { id: old }, data: { balanceTo: id } });
    await pressUpgrade(world, ann);
    expect(balances()).toEqual([0, 100, -500]);
  });

  test('gives credit that was taken to a later customer when the one that was to get it took another currency meanwhile', async () => {
    const { world, ann, old, balances } = await owed();
    const { customers } = clientOf(world);
    const move = customers.createBalanceTransaction.bind(customers);
    vi.spyOn(customers, 'createBalanceTransaction')
      .mockImplementationOnce(move)
      .mockRejectedValueOnce(new Stripe.errors.StripeConnectionError({ message: 'down', type: 'api_error' }));
    await postForm(world.app, '/api/billing/checkout', { plan: 'monthly' }, ann.cookie);
    const { balanceTo } = await world.db.customer.findUniqueOrThrow({ where: { id: old } });
    const id = balanceTo ?? '';
    await world.merchant.customers.createBalanceTransaction(id, { amount: 100, currency: 'eur' });
    await world.db.customer.update({ where: { id }, data: { retiredAt: world.clock.now } });
    await pressUpgrade(world, ann);
    expect(balances()).toEqual([0, 100, -500]);
  });

  test('gives that credit to the customer in use when the one that was to get it is gone', async () => {
    const { world, ann, old, balances } = await owed();
    await world.db.customer.update({ where: { id: old }, data: { balanceTo: 'cus_gone' } });
    await world.db.customer.create({ data: { id: 'cus_gone', userId: ann.id, missingAt: world.clock.now } });
    await pressUpgrade(world, ann);
    expect(balances()).toEqual([0, -500]);
  });

  describe('and an operator moves one of the two customers to another account during the move of the credit', () => {
    /** How the requests that take the credit and give it end: `lost` when Stripe did it, but its answer was lost. */
    async function duringMove(...steps: ('done' | 'failed' | 'lost')[]) {
      const { world, ann, old, balances } = await owed();
      const { customers } = clientOf(world);
      const move = customers.createBalanceTransaction.bind(customers);
      const moving = vi.spyOn(customers, 'createBalanceTransaction');
      for (const step of steps)
        moving.mockImplementationOnce(async (...given) => {
          const moved = step === 'failed' ? null : await move(...given);
          if (step === 'done' && moved) return moved;
          throw new Stripe.errors.StripeConnectionError({ message: 'down', type: 'api_error' });
        });
      await postForm(world.app, '/api/billing/checkout', { plan: 'monthly' }, ann.cookie);
      const { balanceTo } = await world.db.customer.findUniqueOrThrow({ where: { id: old } });
      const other = await signUp(world, 'other@example.com');
      const moveTo = (id: string, stripe: Stripe | null = clientOf(world)) =>
        relink({ ...commandContext(world), stripe }, id, other.id, undefined);
      const isMoved = async (id: string) =>
        (await world.db.customer.findUniqueOrThrow({ where: { id } })).userId === other.id;
      return { world, ann, old, target: balanceTo ?? '', other, moveTo, isMoved, balances };
    }

    test('credit that was taken is given first, or the retired customer is not moved', async () => {
      const { old, moveTo, isMoved, balances } = await duringMove('done', 'failed', 'failed');
      expect(balances()).toEqual([0, 0]);
      await expect(moveTo(old, null)).rejects.toThrow('Start the server');
      await expect(moveTo(old)).rejects.toThrow(/could not be settled\. down\. Try/i);
      expect(await isMoved(old)).toBe(false);
      await moveTo(old);
      expect(await isMoved(old)).toBe(true);
      expect(balances()).toEqual([0, -500]);
    });

    test('the retired customer is not moved while the other one is gone, and the next checkout gives the credit', async () => {
      const { world, ann, old, target, moveTo, isMoved, balances } = await duringMove('done', 'failed');
      await world.merchant.customers.del(target);
      await expect(moveTo(old)).rejects.toThrow('could not be settled');
      expect(await isMoved(old)).toBe(false);
      await pressUpgrade(world, ann);
      expect(balances()).toEqual([0, 0, -500]);
    });

    test('the retired customer is not moved while the other one has another currency, however often it is tried', async () => {
      const { world, ann, old, target, moveTo, isMoved, balances } = await duringMove('done', 'failed');
      await world.merchant.customers.createBalanceTransaction(target, { amount: 100, currency: 'eur' });
      for (let n = 0; n < 3; n += 1) await expect(moveTo(old)).rejects.toThrow('could not be settled');
      expect(await isMoved(old)).toBe(false);
      await world.db.customer.update({ where: { id: target }, data: { retiredAt: world.clock.now } });
      await pressUpgrade(world, ann);
      expect(balances()).toEqual([0, 100, -500]);
    });

    test('credit that was not taken yet stays with the retired customer', async () => {
      const { old, moveTo, isMoved, balances } = await duringMove('failed');
      await moveTo(old);
      expect(await isMoved(old)).toBe(true);
      expect(balances()).toEqual([-500, 0]);
    });

    test.each([
      ['that it did not get', ['done', 'failed'] as const],
      ['that was not even taken', ['failed'] as const],
    ])('credit %s stays with the account when its new customer is moved', async (_what, steps) => {
      const { world, ann, target, moveTo, balances } = await duringMove(...steps);
      await moveTo(target);
      await pressUpgrade(world, ann);
      expect(balances()).toEqual([0, 0, -500]);
    });

    test('credit that the new customer got goes with it, and no other customer gets it again', async () => {
      const { world, ann, target, moveTo, balances } = await duringMove('done', 'lost');
      expect(balances()).toEqual([0, -500]);
      await moveTo(target);
      await pressUpgrade(world, ann);
      expect(balances()).toEqual([0, -500, 0]);
    });

    test('nothing moves if the command moves nothing', async () => {
      const { world, ann, old, other, moveTo, balances } = await duringMove('done', 'failed');
      await relink({ ...commandContext(world), stripe: null }, old, ann.id, undefined);
      await deleteAccount(world, other);
      await expect(moveTo(old)).rejects.toThrow('was deleted');
      expect(balances()).toEqual([0, 0]);
    });
  });

  test('tells Stripe the address of a retired customer, but no later one, because a page of the portal would show it', async () => {
    const { world, ann, old } = await owed(mailEnv(await startMailServer()));
    await askFor(world, ann, 'new@example.com', NEW_PASSWORD);
    await prove(world, ann);
    await (await startTestSender(world)).wake();
    expect(await world.merchant.customers.retrieve(old)).toMatchObject({ email: 'ann@example.com' });
    expect(await userRow(world, ann.id)).toMatchObject({ email: 'new@example.com' });
    // Once, by the reset. Every reset can retire a customer, so later ones must not queue work for each of them.
    expect(await outbox(world, 'stripe.customer-address')).toMatchObject([{ status: 'done' }]);
  });

  test.each([
    ['of an unproven address', false],
    ['of a proven address, which had no customer before', true],
  ])('closes a checkout that a request of the old password is just opening, %s', async (_which, isProven) => {
    const world = await startWorld(MAIL);
    const ann = await signUp(world, 'ann@example.com');
    if (isProven) await proven(world, ann);
    else await world.merchant.subscriptions.cancel(await subscribe(world, ann));
    await deliverWaiting(world);
    const path = await pathOf(world);
    const reset = () => postForm(world.app, path, { password: NEW_PASSWORD });
    const { checkout, customers } = clientOf(world);
    const { sessions } = checkout;
    const createSession = sessions.create.bind(sessions);
    const createCustomer = customers.create.bind(customers);
    if (isProven)
      vi.spyOn(customers, 'create').mockImplementationOnce(async (...given) => {
        const customer = await createCustomer(...given);
        await reset();
        return customer;
      });
    else
      vi.spyOn(sessions, 'create').mockImplementationOnce(async (...given) => {
        const session = await createSession(...given);
        await reset();
        return session;
      });
    const refused = await postForm(world.app, '/api/billing/checkout', { plan: 'monthly' }, ann.cookie);
    expect(refused.headers.location ?? '').not.toContain('/checkout/');
    expect([...world.sandbox.objects.checkouts.values()].at(-1)).toMatchObject({ status: 'expired' });
  });

  test('turns mail on again that whoever paid had turned off', async () => {
    const server = await startTestServer(MAIL);
    const { person } = await squatter(server);
    const stripe = buyer(person.id);
    await deliverAll(server, [stripe.checkoutCompleted(), stripe.created(), stripe.invoicePaid()]);
    await server.db.user.update({ where: { id: person.id }, data: { mailOff: true } });
    await postForm(server.app, await pathOf(server), { password: NEW_PASSWORD });
    expect(await userRow(server, person.id)).toMatchObject({ mailOff: false });
  });

  test('leaves the account of somebody who proved the address as it is', async () => {
    const server = await startTestServer(MAIL);
    const { person } = await squatter(server);
    await server.db.outboxItem.create({
      data: {
        id: 'proof',
        kind: 'mail.prove-address',
        userId: person.id,
        data: 'null',
        createdAt: server.clock.now,
        dueAt: server.clock.now,
        status: 'queued',
      },
    });
    await prove(server, person);
    const path = await pathOf(server);
    server.clock.now = new Date(server.clock.now.getTime() + 60_000);
    expect((await postForm(server.app, path, { password: NEW_PASSWORD })).statusCode).toBe(303);
    expect(await rowsOf(server, person.id)).toEqual({ backups: 1, referrals: 1, sessions: 0 });
    expect(await server.db.user.findUnique({ where: { id: person.id } })).toMatchObject({
      emailProvenAt: daysAfter(0),
    });
  });

  test('that an operator gave out proves nothing, and empties nothing', async () => {
    const server = await startTestServer(MAIL);
    const { person } = await squatter(server);
    const path = await operatorResetPath(server);
    expect((await postForm(server.app, path, { password: NEW_PASSWORD })).statusCode).toBe(303);
    expect(await rowsOf(server, person.id)).toEqual({ backups: 1, referrals: 1, sessions: 0 });
    expect(await server.db.user.findUnique({ where: { id: person.id } })).toMatchObject({
      emailProvenAt: null,
    });
  });

  const evasions: [string, (server: TestServer, person: Person) => Promise<unknown>][] = [
    ['changes its password', changePassword],
    ['deletes it', deleteAccount],
    [
      'moves it to an address of their own',
      async (server, person) => {
        await askFor(server, person, 'own@example.com');
        await prove(server, person);
      },
    ],
  ];

  test.each(evasions)('claims the account although the stranger who made it %s', async (_what, evade) => {
    const server = await startTestServer(MAIL);
    const { person } = await squatter(server);
    const path = await pathOf(server);
    await sendAll(server);
    const exported = await server.app.inject({ url: '/settings/export', headers: { cookie: person.cookie } });
    // Nor does the export tell them that there is a link.
    expect(exported.json()).toMatchObject({ outbox: [] });

    await evade(server, person);
    // If the address is free now, they sign up with it again.
    await postForm(server.app, '/signup', { email: 'ann@example.com', password: PASSWORD });
    expect((await postForm(server.app, path, { password: NEW_PASSWORD })).statusCode).toBe(303);
    expect(await server.db.user.findUnique({ where: { email: 'ann@example.com' } })).toMatchObject({
      emailProvenAt: server.clock.now,
    });
    expect(await loginStatus(server, 'ann@example.com', NEW_PASSWORD)).toBe(303);
    expect(await server.db.resetLink.count({ where: { used: false } })).toBe(0);
  });

  test.each(evasions)('ends when its owner, who has proven the address, %s', async (_what, leave) => {
    const server = await startTestServer(MAIL);
    const ann = await signUp(server, 'ann@example.com');
    await server.db.user.update({ where: { id: ann.id }, data: { emailProvenAt: START } });
    const path = await pathOf(server);
    await sendAll(server);
    await leave(server, ann);
    await postForm(server.app, '/signup', { email: 'ann@example.com', password: PASSWORD });
    expect((await postForm(server.app, path, { password: NEW_PASSWORD })).statusCode).toBe(404);
    expect(await server.db.resetLink.count()).toBe(0);
  });

  test('works for no account while none has its address, and for none with another spelling of it', async () => {
    const server = await startTestServer(MAIL);
    const { person } = await squatter(server);
    const path = await pathOf(server);
    await deleteAccount(server, person);
    await signUp(server, 'ann+2@example.com');
    expect((await server.app.inject({ url: path })).statusCode).toBe(404);
    expect(await server.db.resetLink.findMany()).toMatchObject([{ userId: null }]);
    expect(JSON.stringify(await server.db.resetLink.findMany())).not.toContain('ann@');
  });
});

describe('an unclaimed account whose password is reset by mail', () => {
  test.each([
    ['at once', {}, 600],
    ['after a trial', { STRIPE_TRIAL_DAYS: '7' }, 8 * DAY],
  ])(
    'is not emptied once it was paid for, even if we have not heard of it yet: %s',
    async (_when, env, later) => {
      const world = await startWorld({ ...MAIL, ...env });
      const referrer = await signUp(world, 'referrer@example.com');
      const ann = await signUp(world, 'ann@example.com', referrer.code);
      await subscribe(world, ann);
      await passTime(world, later);
      // Another API key was in use for a while, and its Stripe account did not know the customer.
      await world.db.customer.updateMany({ data: { missingAt: world.clock.now } });
      const path = await pathOf(world);
      expect((await postForm(world.app, path, { password: NEW_PASSWORD })).statusCode).toBe(303);
      expect(await loginStatus(world, 'ann@example.com', NEW_PASSWORD)).toBe(303);
      await deliverWaiting(world);
      expect(await userRow(world, ann.id)).toMatchObject({
        tier: 'paid',
        creditUntil: daysAfter(45, world.clock.now),
      });
    },
  );

  test('forgets a checkout that is just being opened, so that whoever opens it closes it', async () => {
    const server = await startTestServer(MAIL);
    const ann = await signUp(server, 'ann@example.com');
    const opening = { id: 'checkout', plan: 'monthly', priceId: 'price_m', trialDays: 0, sessionId: null };
    await server.db.checkout.create({ data: { ...opening, userId: ann.id, createdAt: server.clock.now } });
    const answer = await postForm(server.app, await pathOf(server), { password: NEW_PASSWORD });
    expect(answer.statusCode).toBe(303);
    expect(await server.db.checkout.count()).toBe(0);
  });
});
