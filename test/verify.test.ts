import { describe, expect, test, vi } from 'vitest';

import { prune } from '../src/operator/prune.ts';
import { proveLink } from '../src/outbox/links.ts';
import { tellCustomerAddress } from '../src/stripe/tell-customer-address.ts';
import { commandContext, operatorResetPath } from './support/command-context.ts';
import { expectSound } from './support/findings.ts';
import { askFor, kindsFor, MAIL, outbox, prove, provePath } from './support/mail.ts';
import { until } from './support/process.ts';
import {
  clientOf,
  cookiesOf,
  DAY,
  daysAfter,
  deleteAccount,
  deliverAll,
  logInAgain,
  loginStatus,
  me,
  PASSWORD,
  postForm,
  postFrom,
  SESSION_SECRET,
  signUp,
  START,
  startTestServer,
} from './support/server.ts';
import type { Person, TestServer } from './support/server.ts';
import {
  aroundExpiry,
  beforeCancellation,
  deliverWaiting,
  letBankDecide,
  refuseToExpire,
  passTime,
  pressUpgrade,
  sessionIdOf,
  startWorld,
  subscribe,
} from './support/stand-in.ts';
import { buyer } from './support/stripe-events.ts';

const NEW_PASSWORD = 'battery staple';

/** Signs somebody up through the form, so that a link is mailed to them. */
async function newcomer(server: TestServer, email = 'ann@example.com'): Promise<Person> {
  const answer = await postForm(server.app, '/signup', { email, password: PASSWORD });
  expect(answer.statusCode).toBe(303);
  const { id, code } = await server.db.user.findUniqueOrThrow({ where: { email } });
  return { id, email, code, cookie: cookiesOf(answer) };
}

const get = ({ app }: TestServer, url: string, cookie = '') => app.inject({ url, headers: { cookie } });

async function settings(server: TestServer, { cookie }: Person): Promise<string> {
  return (await get(server, '/settings', cookie)).body.replaceAll(/\s+/g, ' ');
}

const userOf = ({ db }: TestServer, { id }: Pick<Person, 'id'>) =>
  db.user.findUniqueOrThrow({ where: { id } });

describe('without mail', () => {
  test('nothing is queued or shown, and a changed address counts at once', async () => {
    const server = await startTestServer();
    const ann = await newcomer(server);
    expect(await outbox(server)).toEqual([]);
    for (const words of ['not confirmed', 'Send the link again', 'Mail about free days', 'We send a link'])
      expect(await settings(server, ann)).not.toContain(words);
    expect((await postForm(server.app, '/settings/verify', {}, ann.cookie)).statusCode).toBe(303);
    expect((await askFor(server, ann, 'new@example.com')).statusCode).toBe(303);
    expect(await me(server, ann)).toMatchObject({ email: 'new@example.com', emailProven: false });
    expect(await outbox(server)).toEqual([]);
  });

  test('typing the address that the account has changes nothing: sessions and reset links stay', async () => {
    const server = await startTestServer();
    const ann = await newcomer(server);
    expect(await loginStatus(server, 'ann@example.com')).toBe(303);
    await operatorResetPath(server);
    expect((await askFor(server, ann, 'ANN@example.com')).statusCode).toBe(303);
    expect(await server.db.session.count()).toBe(2);
    expect(await server.db.resetLink.count()).toBe(1);
  });

  test('Stripe is told of a changed address, for every customer', async () => {
    const server = await startTestServer();
    const ann = await newcomer(server);
    await deliverAll(server, [buyer(ann.id).checkoutCompleted(), buyer(ann.id).checkoutCompleted()]);
    await askFor(server, ann, 'new@example.com');
    const customers = await server.db.customer.findMany({ orderBy: { id: 'asc' } });
    const told = await outbox(server, 'stripe.customer-address');
    expect(
      told.map(({ data }) => (JSON.parse(data) as { customerId: string }).customerId).toSorted(),
    ).toEqual(customers.map(({ id }) => id));
    expect(customers).toHaveLength(2);
  });
});

describe('a new address (design: rule 12)', () => {
  test('gets a link, which shows a button to anybody and proves nothing by being opened', async () => {
    const server = await startTestServer(MAIL);
    const ann = await newcomer(server);
    expect(await kindsFor(server, ann)).toEqual(['mail.prove-address']);
    expect(await settings(server, ann)).toContain('<strong>ann@example.com</strong> is not confirmed yet.');
    const path = await provePath(server, ann);
    expect(JSON.stringify(await outbox(server))).not.toContain(path.split('/').at(-1));
    for (const method of ['GET', 'HEAD'] as const) {
      const page = await server.app.inject({ method, url: path });
      expect(page.statusCode).toBe(200);
      if (method === 'GET') expect(page.body).toContain(`<form class="form" method="post" action="${path}">`);
    }
    expect(await me(server, ann)).toMatchObject({ emailProven: false });
  });

  test('is proven by the button, in a browser that is logged out', async () => {
    const server = await startTestServer(MAIL);
    const ann = await newcomer(server);
    const path = await provePath(server, ann);
    const answer = await postForm(server.app, path, {});
    expect(answer.statusCode).toBe(200);
    expect(answer.body).toContain('Your address is confirmed');
    expect(await me(server, ann)).toMatchObject({ email: 'ann@example.com', emailProven: true });
    expect(await settings(server, ann)).not.toContain('Send the link again');
    expect(await settings(server, ann)).toContain('(confirmed)');
    expect(await userOf(server, ann)).toMatchObject({ emailProvenAt: START });
  });

  test('is proven once: the link says so afterwards, and changes nothing', async () => {
    const server = await startTestServer(MAIL);
    const ann = await newcomer(server);
    const path = await provePath(server, ann);
    const answer = await postForm(server.app, path, {}, ann.cookie);
    expect([answer.statusCode, answer.headers.location]).toEqual([303, '/settings']);
    server.clock.now = daysAfter(1);
    expect((await get(server, path)).body).toContain('Your address is confirmed');
    expect((await postForm(server.app, path, {})).statusCode).toBe(200);
    expect(await userOf(server, ann)).toMatchObject({ emailProvenAt: START });
    expect(await me(server, ann)).not.toBeNull();
  });

  test('is not proven by a link that was tampered with', async () => {
    const server = await startTestServer(MAIL);
    const [ann, bob] = [await newcomer(server), await newcomer(server, 'bob@example.com')];
    const token = (await provePath(server, ann)).replace('/verify/', '');
    const [id = '', expiry = '', signature = ''] = token.split('.');
    const bad = [
      `${bob.id}.${expiry}.${signature}`,
      `${id}.${Number(expiry) + 1}.${signature}`,
      `${id}.${expiry}.${signature.startsWith('A') ? 'B' : 'A'}${signature.slice(1)}`,
      `${id}.${expiry}`,
      `${'9'.repeat(36)}.${expiry}.${signature}`,
      'x',
      '%00',
    ];
    for (const one of bad) {
      expect((await get(server, `/verify/${one}`)).statusCode, one).toBe(404);
      expect((await postForm(server.app, `/verify/${one}`, {})).statusCode, one).toBe(404);
    }
    expect(await server.db.user.count({ where: { emailProvenAt: { not: null } } })).toBe(0);
  });

  test('is proven within three days', async () => {
    const server = await startTestServer(MAIL);
    const ann = await newcomer(server);
    const path = await provePath(server, ann);
    server.clock.now = new Date(daysAfter(3).getTime() - 1000);
    expect((await get(server, path)).statusCode).toBe(200);
    server.clock.now = daysAfter(3);
    expect((await get(server, path)).statusCode).toBe(404);
    expect((await postForm(server.app, path, {})).body).toContain('This link no longer works');
    expect(await userOf(server, ann)).toMatchObject({ emailProvenAt: null });
  });

  test.each([
    ['a changed password', '/settings/password', { currentPassword: PASSWORD, newPassword: NEW_PASSWORD }],
    ['a deletion', '/settings/delete', { currentPassword: PASSWORD }],
  ])('is not proven after %s', async (_what, url, fields) => {
    const server = await startTestServer(MAIL);
    const ann = await newcomer(server);
    const path = await provePath(server, ann);
    expect((await postForm(server.app, url, fields, ann.cookie)).statusCode).toBe(303);
    expect((await postForm(server.app, path, {})).statusCode).toBe(404);
    expect(await userOf(server, ann)).toMatchObject({ emailProvenAt: null });
  });

  test('gets the link again, three emails a day in all; signing up works all the same', async () => {
    const server = await startTestServer(MAIL);
    const ann = await newcomer(server);
    const again = () => postForm(server.app, '/settings/verify', {}, ann.cookie);
    for (let n = 1; n <= 2; n += 1) expect((await again()).statusCode).toBe(303);
    const refused = await again();
    expect(refused.statusCode).toBe(429);
    expect(refused.body).toContain('We have sent too many emails to this address today');
    expect(await outbox(server)).toHaveLength(3);

    await deleteAccount(server, ann);
    await newcomer(server);
    // Neither the deletion nor the second sign-up sent another one.
    expect(await outbox(server)).toHaveLength(3);
  });

  test('has a daily limit that also counts emails that the mail server refused, when another one is asked for', async () => {
    const server = await startTestServer(MAIL);
    const ann = await newcomer(server);
    const again = () => postForm(server.app, '/settings/verify', {}, ann.cookie);
    const refused = { status: 'failed', endedAt: server.clock.now };
    for (const status of [303, 303, 429]) {
      await server.db.outboxItem.updateMany({ data: refused });
      expect((await again()).statusCode).toBe(status);
    }
    server.clock.now = daysAfter(1.1);
    expect((await again()).statusCode).toBe(303);
  });

  test('has a daily limit of emails of its own, whoever asks for them', async () => {
    const server = await startTestServer(MAIL);
    const people = [];
    for (let n = 0; n < 4; n += 1) people.push(await signUp(server, `eve${n}@example.com`));
    const answers = [];
    for (const one of people) answers.push(await askFor(server, one, 'victim@example.com'));
    expect(answers.map(({ statusCode }) => statusCode)).toEqual([303, 303, 429, 429]);
    expect(answers.at(-1)?.body).toContain('value="victim@example.com"');
    // Without the password, nobody learns how many emails the address has got.
    const guess = { email: 'victim@example.com', currentPassword: 'not the password' };
    const refused = await postForm(server.app, '/settings/address', guess, people.at(-1)?.cookie);
    expect(refused.statusCode).toBe(403);
    expect(await outbox(server, 'mail.prove-address')).toHaveLength(2);
    // Its owner still gets the email that proves it.
    await newcomer(server, 'victim@example.com');
    expect(await outbox(server, 'mail.prove-address')).toHaveLength(3);
  });

  test('a sign-up that makes no account uses up none of its emails', async () => {
    const server = await startTestServer(MAIL);
    const ann = await newcomer(server);
    for (let n = 0; n < 6; n += 1)
      await postFrom(server, '/signup', '192.0.2.9', { email: 'ann@example.com', password: NEW_PASSWORD });
    expect((await postForm(server.app, '/settings/verify', {}, ann.cookie)).statusCode).toBe(303);
    expect(await outbox(server)).toHaveLength(2);
  });

  test('tells an owner who has paid of a change, although a stranger used up the emails with its +tags', async () => {
    const server = await startTestServer(MAIL);
    const ann = await newcomer(server);
    const stripe = buyer(ann.id);
    await deliverAll(server, [stripe.checkoutCompleted(), stripe.created(), stripe.invoicePaid()]);
    for (let n = 0; n < 6; n += 1) await newcomer(server, `ann+${n}@example.com`);
    expect((await askFor(server, ann, 'thief@example.com')).statusCode).toBe(303);
    expect(await outbox(server, 'mail.address-changing')).toMatchObject([{ address: 'ann@example.com' }]);
  });

  test('still gets a reset link when somebody who paid under another +tag used up the notices', async () => {
    const server = await startTestServer(MAIL);
    const ann = await newcomer(server);
    server.clock.now = daysAfter(0.01);
    const eve = await newcomer(server, 'ann+eve@example.com');
    for (const { id } of [ann, eve]) {
      const stripe = buyer(id);
      await deliverAll(server, [stripe.checkoutCompleted(), stripe.created(), stripe.invoicePaid()]);
    }
    for (let n = 0; n < 6; n += 1) await askFor(server, eve, `eve${n}@example.com`);
    await postForm(server.app, '/forgot', { email: 'ann@example.com' });
    await until(async () => (await outbox(server, 'mail.reset-password'))[0]);
  });

  test('has one daily limit of emails for all its +tags', async () => {
    const server = await startTestServer(MAIL);
    for (let n = 0; n < 6; n += 1) await newcomer(server, `ann+${n}@example.com`);
    expect(await outbox(server, 'mail.prove-address')).toHaveLength(3);
  });

  test('a refused change to it uses up none of its emails, so nobody can use them up unseen', async () => {
    const server = await startTestServer(MAIL);
    const eve = await signUp(server, 'eve@example.com');
    const ask = async () => (await askFor(server, eve, 'ann@example.com', 'wrong password')).statusCode;
    for (let n = 0; n < 4; n += 1) expect(await ask()).toBe(403);
    expect(await Promise.all([ask(), ask(), ask(), ask(), ask(), ask()])).not.toContain(303);
    const ann = await newcomer(server);
    for (let n = 0; n < 2; n += 1)
      expect((await postForm(server.app, '/settings/verify', {}, ann.cookie)).statusCode).toBe(303);
    expect(await outbox(server, 'mail.prove-address')).toHaveLength(3);
  });

  test.each([
    ['/settings/address', { email: 'new@example.com' }],
    ['/settings/password', { newPassword: NEW_PASSWORD }],
    ['/settings/delete', {}],
  ])('a wrong password at %s uses up none of its emails', async (path, fields) => {
    const server = await startTestServer(MAIL);
    const ann = await newcomer(server);
    for (let n = 0; n < 5; n += 1) {
      const typed = { ...fields, currentPassword: 'wrong password' };
      expect((await postForm(server.app, path, typed, ann.cookie)).statusCode).toBe(403);
    }
    expect((await postForm(server.app, '/settings/verify', {}, ann.cookie)).statusCode).toBe(303);
    expect(await outbox(server)).toHaveLength(2);
  });

  test('one client can use verification links 30 times', async () => {
    const server = await startTestServer(MAIL);
    const ann = await newcomer(server);
    const path = await provePath(server, ann);
    for (let n = 0; n < 30; n += 1) expect((await postFrom(server, path, '192.0.2.1')).statusCode).toBe(200);
    expect((await postFrom(server, path, '192.0.2.1')).statusCode).toBe(429);
    expect((await postFrom(server, path, '192.0.2.2')).statusCode).toBe(200);
  });
});

/** Somebody whose address is proven. */
async function proven(server: TestServer, email = 'ann@example.com'): Promise<Person> {
  const ann = await newcomer(server, email);
  await prove(server, ann);
  await server.db.outboxItem.deleteMany({ where: { userId: ann.id } });
  return ann;
}

describe('a change of address (design: rule 12)', () => {
  test('waits for the proof, and the old address is told at once', async () => {
    const server = await startTestServer(MAIL);
    const ann = await proven(server);
    const answer = await askFor(server, ann, 'new@example.com');
    expect([answer.statusCode, answer.headers.location]).toEqual([303, '/settings']);
    expect(await outbox(server)).toMatchObject([
      { kind: 'mail.address-changing', address: 'ann@example.com', userId: ann.id },
      { kind: 'mail.prove-address', address: 'new@example.com', userId: ann.id },
    ]);
    expect(await me(server, ann)).toMatchObject({ email: 'ann@example.com', emailProven: true });
    expect(await settings(server, ann)).toContain('Your address changes to <strong>new@example.com</strong>');
    expect([
      await loginStatus(server, 'ann@example.com'),
      await loginStatus(server, 'new@example.com'),
    ]).toEqual([303, 401]);
  });

  test('takes effect with the proof: other sessions and links end, the old address and Stripe are told', async () => {
    const server = await startTestServer(MAIL);
    const ann = await proven(server);
    await deliverAll(server, [buyer(ann.id).checkoutCompleted()]);
    const elsewhere = await logInAgain(server, ann);
    await askFor(server, ann, 'new@example.com');
    await operatorResetPath(server);
    const path = await provePath(server, ann);
    const page = await get(server, path);
    expect(page.body).toContain('new@example.com');
    expect(page.body).not.toContain('ann@example.com');

    const answer = await postForm(server.app, path, {}, ann.cookie);
    expect([answer.statusCode, answer.headers.location]).toEqual([303, '/settings']);
    expect(await me(server, ann)).toMatchObject({ email: 'new@example.com', emailProven: true });
    expect(await me(server, { cookie: elsewhere })).toBeNull();
    expect(await server.db.resetLink.count()).toBe(0);
    expect(await outbox(server)).toMatchObject([
      { kind: 'mail.address-changed', address: 'ann@example.com' },
      { kind: 'mail.address-changing', address: 'ann@example.com' },
      { kind: 'mail.prove-address' },
      { kind: 'stripe.customer-address', userId: ann.id },
    ]);
    expect(await userOf(server, ann)).toMatchObject({ pendingEmail: null, pendingEmailAt: null });
    // The old one was proven: it stays theirs.
    expect(await server.db.formerAddress.count({ where: { userId: ann.id } })).toBe(1);
    expect([
      await loginStatus(server, 'ann@example.com'),
      await loginStatus(server, 'new@example.com'),
    ]).toEqual([401, 303]);
    await expectSound(server);
  });

  test('that is proven in another browser ends every session; pressing the button again changes nothing', async () => {
    const server = await startTestServer(MAIL);
    const ann = await proven(server);
    await askFor(server, ann, 'new@example.com');
    const path = await provePath(server, ann);
    const answer = await postForm(server.app, path, {});
    expect(answer.body).toContain('is now the address of your account');
    expect(await me(server, ann)).toBeNull();
    expect((await postForm(server.app, path, {})).statusCode).toBe(200);
    expect(await kindsFor(server, ann)).toHaveLength(3);
    expect(await loginStatus(server, 'new@example.com')).toBe(303);
  });

  test('keeps the session of another account that the browser is logged in with', async () => {
    const server = await startTestServer(MAIL);
    const [ann, bob] = [await proven(server), await newcomer(server, 'bob@example.com')];
    await askFor(server, ann, 'new@example.com');
    expect((await postForm(server.app, await provePath(server, ann), {}, bob.cookie)).statusCode).toBe(200);
    expect(await me(server, bob)).toMatchObject({ email: 'bob@example.com', emailProven: false });
    expect(await me(server, ann)).toBeNull();
  });

  test('is refused in a browser that is logged in to the account it would delete', async () => {
    const server = await startTestServer(MAIL);
    const [thief, ann] = [await proven(server, 'thief@example.com'), await newcomer(server)];
    await askFor(server, thief, ann.email);
    const path = await provePath(server, thief);
    expect((await get(server, path, ann.cookie)).body).toContain('Another account wants to use your address');
    expect((await postForm(server.app, path, {}, ann.cookie)).statusCode).toBe(409);
    expect(await me(server, ann)).toMatchObject({ email: ann.email });
    expect((await get(server, path)).body).toContain('together with its backups');
  });

  test('needs the password', async () => {
    const server = await startTestServer(MAIL);
    const ann = await proven(server);
    const answer = await askFor(server, ann, 'new@example.com', 'wrong password');
    expect(answer.statusCode).toBe(403);
    expect(answer.body).toContain('value="new@example.com"');
    expect(await outbox(server)).toEqual([]);
  });

  test('is mailed to no other address than the one that was asked for, whatever is pending when it is sent', async () => {
    const server = await startTestServer(MAIL);
    const ann = await proven(server);
    const asked = ['first@example.com', 'second@example.com', 'third@example.com'];
    for (const email of asked) expect((await askFor(server, ann, email)).statusCode).toBe(303);
    const maker = { publicUrl: server.config.publicUrl, secret: SESSION_SECRET };
    const user = await server.db.user.findUniqueOrThrow({ where: { id: ann.id } });
    const items = (await outbox(server, 'mail.prove-address')).filter(({ address }) =>
      asked.includes(address ?? ''),
    );
    const sentTo = items.map((item) => [
      item.address,
      proveLink(maker, user, item, server.clock.now)?.address,
    ]);
    expect(new Map(sentTo as [string, unknown][])).toEqual(
      new Map([
        ['first@example.com', undefined],
        ['second@example.com', undefined],
        ['third@example.com', 'third@example.com'],
      ]),
    );
  });

  test('is voided by typing one’s own address after mail was switched off', async () => {
    const server = await startTestServer(MAIL);
    const ann = await proven(server);
    await askFor(server, ann, 'new@example.com');
    const path = await provePath(server, ann);
    const withoutMail = await startTestServer({ DATABASE_URL: server.databaseUrl });
    expect((await askFor(withoutMail, ann, 'ann@example.com')).statusCode).toBe(303);
    expect((await postForm(withoutMail.app, path, {})).statusCode).toBe(404);
    expect(await server.db.user.findUnique({ where: { id: ann.id } })).toMatchObject({
      email: 'ann@example.com',
      pendingEmail: null,
    });
  });

  test('is voided by a newer one', async () => {
    const server = await startTestServer(MAIL);
    const ann = await proven(server);
    await askFor(server, ann, 'first@example.com');
    const first = await provePath(server, ann);
    server.clock.now = new Date(START.getTime() + 1000);
    await askFor(server, ann, 'second@example.com');
    expect((await postForm(server.app, first, {})).statusCode).toBe(404);
    await prove(server, ann);
    expect(await userOf(server, ann)).toMatchObject({ email: 'second@example.com' });
  });

  test('is voided by asking for the present address', async () => {
    const server = await startTestServer(MAIL);
    const ann = await proven(server);
    await askFor(server, ann, 'new@example.com');
    const path = await provePath(server, ann);
    expect((await askFor(server, ann, 'ann@example.com')).statusCode).toBe(303);
    expect((await postForm(server.app, path, {})).statusCode).toBe(404);
    expect(await settings(server, ann)).not.toContain('new@example.com');
    expect(await kindsFor(server, ann)).toHaveLength(2);
  });

  test.each([
    [
      'a changed password',
      (server: TestServer, { cookie }: Person) =>
        postForm(
          server.app,
          '/settings/password',
          { currentPassword: PASSWORD, newPassword: NEW_PASSWORD },
          cookie,
        ),
    ],
    [
      'a reset password',
      async (server: TestServer, { email }: Person) => {
        const path = await operatorResetPath(server, email);
        return postForm(server.app, path, { password: NEW_PASSWORD });
      },
    ],
    [
      'a deletion',
      (server: TestServer, { cookie }: Person) =>
        postForm(server.app, '/settings/delete', { currentPassword: PASSWORD }, cookie),
    ],
  ])('is voided by %s', async (_what, act) => {
    const server = await startTestServer(MAIL);
    const ann = await proven(server);
    await askFor(server, ann, 'new@example.com');
    const path = await provePath(server, ann);
    expect((await act(server, ann)).statusCode).toBe(303);
    expect((await get(server, path)).statusCode).toBe(404);
    expect((await postForm(server.app, path, {})).statusCode).toBe(404);
    expect(await userOf(server, ann)).toMatchObject({ pendingEmail: null, pendingEmailAt: null });
    expect(await server.db.user.count({ where: { email: 'new@example.com' } })).toBe(0);
    await expectSound(server);
  });

  test('lapses after three days, counted from the last email, and is forgotten by prune', async () => {
    const server = await startTestServer(MAIL);
    const ann = await proven(server);
    await askFor(server, ann, 'new@example.com');
    server.clock.now = daysAfter(2);
    expect((await postForm(server.app, '/settings/verify', {}, ann.cookie)).statusCode).toBe(303);
    server.clock.now = daysAfter(4);
    expect(await settings(server, ann)).toContain('Your address changes to');
    const path = await provePath(server, ann);
    server.clock.now = daysAfter(5);
    expect(await settings(server, ann)).not.toContain('Your address changes to');
    expect((await postForm(server.app, path, {})).statusCode).toBe(404);
    expect(await userOf(server, ann)).toMatchObject({ pendingEmail: 'new@example.com' });
    await prune(commandContext(server));
    expect(await userOf(server, ann)).toMatchObject({ pendingEmail: null, pendingEmailAt: null });
  });

  test('to another +tag is proven as well, and what was paid for stays', async () => {
    const server = await startTestServer(MAIL);
    const ann = await proven(server);
    const { emailHash } = await userOf(server, ann);
    await askFor(server, ann, 'ann+2@example.com');
    expect(await userOf(server, ann)).toMatchObject({ email: 'ann@example.com' });
    await prove(server, ann);
    expect(await userOf(server, ann)).toMatchObject({
      email: 'ann+2@example.com',
      emailHash,
      emailProvenAt: START,
    });
    expect(await server.db.formerAddress.count()).toBe(0);
  });

  test('from an address that was neither proven nor paid for leaves nothing of it', async () => {
    const server = await startTestServer(MAIL);
    const ann = await newcomer(server, 'owner@example.com');
    await askFor(server, ann, 'new@example.com');
    await prove(server, ann);
    expect(await server.db.formerAddress.count()).toBe(0);
    expect(await userOf(server, await newcomer(server, 'owner@example.com'))).toMatchObject({
      deletedAt: null,
    });
  });

  test('to an address that somebody has proven or paid with is refused', async () => {
    const server = await startTestServer(MAIL);
    const ann = await proven(server);
    await proven(server, 'bob@example.com');
    const payer = await newcomer(server, 'payer@example.com');
    const stripe = buyer(payer.id);
    await deliverAll(server, [stripe.checkoutCompleted(), stripe.created(), stripe.invoicePaid()]);
    for (const email of ['bob@example.com', 'payer@example.com']) {
      const answer = await askFor(server, ann, email);
      expect(answer.statusCode).toBe(409);
      expect(answer.body).toContain('This address already has an account');
    }
    expect(await kindsFor(server, ann)).toEqual([]);
  });

  test('reserves nothing: it fails when somebody else has proven the address meanwhile', async () => {
    const server = await startTestServer(MAIL);
    const ann = await proven(server);
    await askFor(server, ann, 'new@example.com');
    const path = await provePath(server, ann);
    const other = await proven(server, 'new@example.com');
    const answer = await postForm(server.app, path, {});
    expect(answer.statusCode).toBe(409);
    expect(answer.body).toContain('This address belongs to another account');
    expect(await userOf(server, ann)).toMatchObject({
      email: 'ann@example.com',
      pendingEmail: 'new@example.com',
    });
    expect(await userOf(server, other)).toMatchObject({ email: 'new@example.com', deletedAt: null });
    await expectSound(server);
  });

  test('of two people who ask for one address, the first to prove it has it', async () => {
    const server = await startTestServer(MAIL);
    const [ann, bob] = [await proven(server), await proven(server, 'bob@example.com')];
    await askFor(server, ann, 'new@example.com');
    await askFor(server, bob, 'new@example.com');
    await prove(server, bob);
    const path = await provePath(server, ann);
    expect((await postForm(server.app, path, {})).statusCode).toBe(409);
    const page = (await get(server, path)).body;
    expect(page).toContain('was confirmed or paid for by another account');
    expect(page).not.toContain('Yes, this is my address');
    expect(await userOf(server, bob)).toMatchObject({ email: 'new@example.com' });
    expect(await userOf(server, ann)).toMatchObject({ email: 'ann@example.com' });
  });
});

describe('an account with an address that nobody proved or paid for (design: rule 12)', () => {
  test('is deleted when somebody else, who is warned first, proves the address', async () => {
    const server = await startTestServer(MAIL);
    const ann = await proven(server);
    const squatter = await signUp(server, 'new@example.com', ann.code);
    await server.db.backup.create({
      data: { id: 'b1', userId: squatter.id, number: 1, document: '{}', createdAt: START },
    });
    expect((await askFor(server, ann, 'new@example.com')).statusCode).toBe(303);
    expect(await userOf(server, squatter)).toMatchObject({ deletedAt: null });
    const path = await provePath(server, ann);
    expect((await get(server, path)).body).toContain('There is another account with this address');
    expect((await postForm(server.app, path, {}, ann.cookie)).statusCode).toBe(303);
    expect(await userOf(server, squatter)).toMatchObject({ email: null, deletedAt: START, emailHash: '' });
    expect(await userOf(server, ann)).toMatchObject({ email: 'new@example.com', emailProvenAt: START });
    expect(await server.db.backup.count()).toBe(0);
    expect(await me(server, squatter)).toBeNull();
    await expectSound(server);
  });

  test('keeps the address when it pays before the other account proves it', async () => {
    const server = await startTestServer(MAIL);
    const ann = await proven(server);
    const holder = await newcomer(server, 'new@example.com');
    await askFor(server, ann, 'new@example.com');
    const stripe = buyer(holder.id);
    await deliverAll(server, [stripe.checkoutCompleted(), stripe.created(), stripe.invoicePaid()]);
    expect((await postForm(server.app, await provePath(server, ann), {})).statusCode).toBe(409);
    expect(await userOf(server, holder)).toMatchObject({ email: 'new@example.com', deletedAt: null });
  });

  test('has its trial canceled at Stripe first, and the trial does not count for the address', async () => {
    const world = await startWorld({ ...MAIL, STRIPE_TRIAL_DAYS: '7' });
    const ann = await proven(world);
    const squatter = await newcomer(world, 'new@example.com');
    const subscription = await subscribe(world, squatter);
    await deliverWaiting(world);
    expect(await userOf(world, squatter)).toMatchObject({ tier: 'trial' });
    await askFor(world, ann, 'new@example.com');
    const path = await provePath(world, ann);

    const { emailHash: trialHash } = await userOf(world, squatter);
    expect(await world.db.subscription.count({ where: { trialHash } })).toBe(1);
    expect((await postForm(world.app, path, {})).statusCode).toBe(200);
    expect(world.sandbox.objects.subscriptions.get(subscription)).toMatchObject({ status: 'canceled' });
    expect(await userOf(world, squatter)).toMatchObject({ deletedAt: START });
    // The trial does not count for the address, which was never theirs.
    expect(await world.db.subscription.count({ where: { trialHash } })).toBe(0);
    await deliverWaiting(world);
    await expectSound(world);
  });

  test('is not deleted once it was paid for, even if we have not heard of it yet', async () => {
    const world = await startWorld(MAIL);
    const ann = await proven(world);
    const holder = await newcomer(world, 'new@example.com');
    const subscription = await subscribe(world, holder);
    await askFor(world, ann, 'new@example.com');
    const path = await provePath(world, ann);
    world.clock.now = new Date(world.clock.now.getTime() + 10 * 60_000);
    const answer = await postForm(world.app, path, {});
    expect(answer.statusCode).toBe(409);
    expect(answer.body).toContain('belongs to another account');
    expect(await loginStatus(world, 'new@example.com', PASSWORD)).toBe(303);
    expect(world.sandbox.objects.subscriptions.get(subscription)).toMatchObject({ status: 'active' });
    await deliverWaiting(world);
    expect((await postForm(world.app, path, {})).body).toContain('belongs to another account');
    expect(await userOf(world, holder)).toMatchObject({ tier: 'paid', deletedAt: null });
  });

  test('is not deleted when its trial is charged just before it is cancelled', async () => {
    const world = await startWorld({ ...MAIL, STRIPE_TRIAL_DAYS: '7' });
    const ann = await proven(world);
    const holder = await newcomer(world, 'new@example.com');
    await subscribe(world, holder);
    await deliverWaiting(world);
    await askFor(world, ann, 'new@example.com');
    const path = await provePath(world, ann);
    beforeCancellation(world, () => passTime(world, 8 * DAY));
    expect((await postForm(world.app, path, {})).body).toContain('belongs to another account');
    expect(await userOf(world, holder)).toMatchObject({ email: 'new@example.com', deletedAt: null });
  });

  test('is not deleted when it is paid for just as its checkout is closed', async () => {
    const world = await startWorld(MAIL);
    const ann = await proven(world);
    const holder = await newcomer(world, 'new@example.com');
    const session = sessionIdOf(await pressUpgrade(world, holder));
    await askFor(world, ann, 'new@example.com');
    aroundExpiry(world, { before: () => world.sandbox.acts.pay(session) });
    expect((await postForm(world.app, await provePath(world, ann), {})).statusCode).toBe(409);
    await deliverWaiting(world);
    expect(await userOf(world, holder)).toMatchObject({ tier: 'paid', deletedAt: null });
  });

  test('is not deleted when the bank approves its first payment while we ask Stripe to void the invoice', async () => {
    const world = await startWorld(MAIL);
    const ann = await proven(world);
    const holder = await newcomer(world, 'new@example.com');
    const unfinished = await subscribe(world, holder, { outcome: 'incomplete' });
    await askFor(world, ann, 'new@example.com');
    const { invoices } = clientOf(world);
    const voidInvoice = invoices.voidInvoice.bind(invoices);
    vi.spyOn(invoices, 'voidInvoice').mockImplementationOnce((id) => {
      world.sandbox.acts.retryPayment(unfinished);
      return voidInvoice(id);
    });
    expect((await postForm(world.app, await provePath(world, ann), {})).statusCode).toBe(409);
    await deliverWaiting(world);
    expect(world.sandbox.objects.subscriptions.get(unfinished)).toMatchObject({ status: 'active' });
    expect(await userOf(world, holder)).toMatchObject({ tier: 'paid', deletedAt: null });
  });

  /** The holder has a payment page open; `path` is of the link by which Ann proves their address. */
  async function whileCheckoutIsOpen() {
    const world = await startWorld(MAIL);
    const ann = await proven(world);
    const holder = await newcomer(world, 'new@example.com');
    await pressUpgrade(world, holder);
    await askFor(world, ann, 'new@example.com');
    return { world, ann, holder, path: await provePath(world, ann) };
  }

  test('is shut out before its closed checkout could warn whoever holds it', async () => {
    const { world, ann, holder, path } = await whileCheckoutIsOpen();
    await askFor(world, holder, 'own@example.com');
    const leave = await provePath(world, holder);
    const tried: number[] = [];
    aroundExpiry(world, {
      after: async () => {
        tried.push((await postForm(world.app, leave, {})).statusCode);
        const me = await world.app.inject({ url: '/api/me', headers: { cookie: holder.cookie } });
        tried.push(me.statusCode);
        tried.push(await loginStatus(world, 'new@example.com', PASSWORD));
      },
    });
    expect((await postForm(world.app, path, {})).statusCode).toBe(200);
    expect(tried).toEqual([404, 401, 401]);
    expect(await userOf(world, holder)).toMatchObject({ email: null });
    expect(await userOf(world, ann)).toMatchObject({ email: 'new@example.com' });
  });

  test('loses the address even if it belongs to a different unproven account by then', async () => {
    const { world, ann, holder, path } = await whileCheckoutIsOpen();
    let second: Person | undefined;
    aroundExpiry(world, {
      before: async () => {
        await world.db.user.update({ where: { id: holder.id }, data: { email: 'left@example.com' } });
        second = await newcomer(world, 'new@example.com');
      },
    });
    expect((await postForm(world.app, path, {})).statusCode).toBe(200);
    expect(second && (await userOf(world, second))).toMatchObject({ email: null });
    expect(await userOf(world, ann)).toMatchObject({ email: 'new@example.com' });
  });

  /** A bank is deciding about the holder's first payment; `path` is of the link by which Ann proves their address. */
  async function whileBankDecides() {
    const world = await startWorld(MAIL);
    const ann = await proven(world);
    const holder = await newcomer(world, 'new@example.com');
    const unfinished = await subscribe(world, holder, { outcome: 'incomplete' });
    await askFor(world, ann, 'new@example.com');
    letBankDecide(world);
    const path = await provePath(world, ann);
    return { world, holder, unfinished, path };
  }

  test('is not deleted while its first payment awaits the bank’s approval', async () => {
    const { world, holder, unfinished, path } = await whileBankDecides();
    const answer = await postForm(world.app, path, {});
    expect([answer.statusCode, answer.body]).toEqual([
      409,
      expect.stringContaining('a payment for another account with this address is still being processed'),
    ]);
    expect(await loginStatus(world, 'new@example.com', PASSWORD)).toBe(401);
    expect(world.sandbox.objects.subscriptions.get(unfinished)).toMatchObject({ status: 'incomplete' });
    expect((await postForm(world.app, path, {})).statusCode).toBe(200);
    expect(await userOf(world, holder)).toMatchObject({ deletedAt: START });
  });

  test('is let in at once when its own mailed link proves the address meanwhile', async () => {
    const { world, holder, path } = await whileBankDecides();
    const own = await provePath(world, holder);
    expect((await postForm(world.app, path, {})).statusCode).toBe(409);
    expect(await loginStatus(world, 'new@example.com', PASSWORD)).toBe(401);
    await postForm(world.app, own, {});
    expect(await loginStatus(world, 'new@example.com', PASSWORD)).toBe(303);
    expect((await postForm(world.app, path, {})).statusCode).toBe(409);
    expect(await userOf(world, holder)).toMatchObject({ email: 'new@example.com', deletedAt: null });
  });

  test('is not deleted while a payment page is open that Stripe does not close', async () => {
    const { world, holder, path } = await whileCheckoutIsOpen();
    refuseToExpire(world);
    expect((await postForm(world.app, path, {})).statusCode).toBe(409);
    expect(await userOf(world, holder)).toMatchObject({ deletedAt: null });
    expect((await postForm(world.app, path, {})).statusCode).toBe(200);
  });

  test('is let in again once the bank has approved its first payment and the link is used again', async () => {
    const { world, holder, unfinished, path } = await whileBankDecides();
    expect((await postForm(world.app, path, {})).statusCode).toBe(409);
    world.sandbox.acts.retryPayment(unfinished);
    await deliverWaiting(world);
    expect((await postForm(world.app, path, {})).statusCode).toBe(409);
    expect(await userOf(world, holder)).toMatchObject({ tier: 'paid', deletedAt: null });
    expect(await loginStatus(world, 'new@example.com', PASSWORD)).toBe(303);
  });

  test('is not deleted when Stripe cannot be asked to end what it has there', async () => {
    const server = await startTestServer({
      ...MAIL,
      STRIPE_API_KEY: 'sk_test_x',
      STRIPE_API_BASE: 'http://127.0.0.1:9',
    });
    const ann = await proven(server);
    const squatter = await newcomer(server, 'new@example.com');
    await deliverAll(server, [buyer(squatter.id).checkoutCompleted()]);
    await askFor(server, ann, 'new@example.com');
    const path = await provePath(server, ann);
    expect((await postForm(server.app, path, {})).statusCode).toBe(502);
    expect(await userOf(server, squatter)).toMatchObject({ deletedAt: null });
    expect(await loginStatus(server, 'new@example.com', PASSWORD)).toBe(401);
    server.clock.now = new Date(START.getTime() + 600_000);
    expect(await loginStatus(server, 'new@example.com', PASSWORD)).toBe(303);
    expect(await userOf(server, ann)).toMatchObject({
      email: 'ann@example.com',
      pendingEmail: 'new@example.com',
    });
  });

  test('whose subscription cannot be cancelled at Stripe, because no key is configured, stays', async () => {
    const server = await startTestServer(MAIL);
    const ann = await proven(server);
    const squatter = await newcomer(server, 'new@example.com');
    await deliverAll(server, [buyer(squatter.id).checkoutCompleted()]);
    await askFor(server, ann, 'new@example.com');
    const answer = await postForm(server.app, await provePath(server, ann), {});
    expect(answer.statusCode).toBe(409);
    expect(answer.body).toContain('payments are not set up');
    expect(await userOf(server, squatter)).toMatchObject({ deletedAt: null });
  });
});

describe('mail about the account', () => {
  test('tells of a changed password, and of a deletion at the address that the account had', async () => {
    const server = await startTestServer(MAIL);
    const ann = await proven(server);
    const fields = { currentPassword: PASSWORD, newPassword: NEW_PASSWORD };
    const changed = await postForm(server.app, '/settings/password', fields, ann.cookie);
    expect(await outbox(server)).toMatchObject([
      { kind: 'mail.password-changed', userId: ann.id, address: null, data: 'null' },
    ]);
    await deleteAccount(server, { cookie: cookiesOf(changed) }, NEW_PASSWORD);
    expect(await outbox(server, 'mail.account-deleted')).toMatchObject([
      { userId: ann.id, address: 'ann@example.com' },
    ]);
  });

  test('is not queued for what was refused', async () => {
    const server = await startTestServer(MAIL);
    const ann = await proven(server);
    const fields = { currentPassword: 'wrong password', newPassword: NEW_PASSWORD };
    expect((await postForm(server.app, '/settings/password', fields, ann.cookie)).statusCode).toBe(403);
    expect((await postForm(server.app, '/settings/delete', fields, ann.cookie)).statusCode).toBe(403);
    expect(await outbox(server)).toEqual([]);
  });
});

describe('Stripe is told of a changed address', () => {
  async function newSubscriber() {
    const world = await startWorld();
    const ann = await newcomer(world);
    await subscribe(world, ann);
    await deliverWaiting(world);
    const { db } = world;
    const stripe = clientOf(world);
    const { id } = await db.customer.findFirstOrThrow();
    return { world, ann, db, stripe, id };
  }

  test('for the customer that the outbox names, and repeating it does no harm', async () => {
    const { world, ann, db, stripe } = await newSubscriber();
    await askFor(world, ann, 'new@example.com');
    const [item] = await outbox(world, 'stripe.customer-address');
    const { customerId } = JSON.parse(item?.data ?? '{}') as { customerId: string };
    for (let n = 0; n < 2; n += 1) {
      expect(await tellCustomerAddress({ db, stripe }, customerId, null, START)).toBe('told');
      expect(world.sandbox.objects.customers.get(customerId)).toMatchObject({ email: 'new@example.com' });
    }
  });

  test('unless the account, or the customer, is gone', async () => {
    const { world, db, stripe, id } = await newSubscriber();
    await world.merchant.customers.del(id);
    expect(await tellCustomerAddress({ db, stripe }, id, null, START)).toBe('dropped');
    expect(await db.customer.findUnique({ where: { id } })).toMatchObject({
      missingAt: START,
      deletedAt: null,
    });
    expect(await tellCustomerAddress({ db, stripe }, 'cus_unknown', null, START)).toBe('dropped');
  });

  test('and again if it has changed when Stripe answers', async () => {
    const { world, ann, db, stripe, id } = await newSubscriber();
    const update = stripe.customers.update.bind(stripe.customers);
    const changesFirst = async (...given: Parameters<typeof update>) => {
      expect((await askFor(world, ann, 'new@example.com')).statusCode).toBe(303);
      return update(...given);
    };
    vi.spyOn(stripe.customers, 'update').mockImplementationOnce(changesFirst);
    expect(await tellCustomerAddress({ db, stripe }, id, null, START)).toBe('told');
    expect(world.sandbox.objects.customers.get(id)).toMatchObject({ email: 'new@example.com' });
  });

  test('when it changed while Stripe made the customer', async () => {
    const world = await startWorld();
    const ann = await newcomer(world);
    const stripe = clientOf(world);
    const create = stripe.customers.create.bind(stripe.customers);
    stripe.customers.create = async (...given: Parameters<typeof create>) => {
      expect((await askFor(world, ann, 'new@example.com')).statusCode).toBe(303);
      return create(...given);
    };
    await pressUpgrade(world, ann);
    const { id } = await world.db.customer.findFirstOrThrow();
    expect(await outbox(world)).toMatchObject([
      { kind: 'stripe.customer-address', userId: ann.id, data: JSON.stringify({ customerId: id }) },
    ]);
  });
});
