import type { LightMyRequestResponse } from 'fastify';
import { describe, expect, inject, onTestFinished, test, vi } from 'vitest';

import { countByClient } from '../src/http/connections.ts';
import { homeOf, networkOf, siteOf } from '../src/http/network.ts';
import { operatorResetPath } from './support/command-context.ts';
import { expectTooMany, failLogIns, WRONG } from './support/failed-logins.ts';
import { MAIL } from './support/mail.ts';
import { until } from './support/process.ts';
import {
  clientOf,
  cookiesOf,
  deliverRaw,
  PASSWORD,
  PATIENT,
  postForm,
  postFrom,
  signUp,
  START,
  startTestServer,
} from './support/server.ts';
import type { Person, TestServer } from './support/server.ts';
import { pressUpgrade, startWorld } from './support/stand-in.ts';

/** Compares many passwords, so the short run leaves it out. */
const slowTest = test.runIf(inject('thorough'));

describe('rate limits count clients by network', () => {
  test.each([
    ['192.0.2.1', '192.0.2.1'],
    ['::ffff:192.0.2.1', '192.0.2.1'],
    ['::FFFF:c000:0201', '192.0.2.1'],
    ['192.0.2.1:4711', '192.0.2.1'],
    ['[::ffff:192.0.2.1]:4711', '192.0.2.1'],
    ['::ffff:192.0.2.1:4711', '192.0.2.1'],
    [' 192.0.2.1 ', '192.0.2.1'],
    ['2001:db8:0:1::1', '2001:db8:0:1::/64'],
    ['2001:0DB8:0000:0001:ffff:ffff:ffff:ffff', '2001:db8:0:1::/64'],
    ['[2001:db8:0:1::2]', '2001:db8:0:1::/64'],
    ['[2001:db8:0:1::2]:4711', '2001:db8:0:1::/64'],
    ['fe80::1%eth0', 'fe80:0:0:0::/64'],
    ['2001:db8:0:2::1', '2001:db8:0:2::/64'],
    ['', 'unknown'],
    ['unknown', 'unknown'],
    ['_hidden', 'unknown'],
  ])('%j counts as %s', (address, network) => {
    expect(networkOf(address)).toBe(network);
  });

  test('a home is the /56 of an IPv6 address, or the IPv4 address', () => {
    expect(['2001:db8:1:2ff::3', '2001:db8:1:200::', '2001:db8:1:300::', '192.0.2.1'].map(homeOf)).toEqual([
      '2001:db8:1:200::/56',
      '2001:db8:1:200::/56',
      '2001:db8:1:300::/56',
      '192.0.2.1',
    ]);
  });

  test('a site is the /48 of an IPv6 address, or the IPv4 address', () => {
    expect(['2001:db8:1:2::3', '2001:db8:1:ffff::', '192.0.2.1'].map(siteOf)).toEqual([
      '2001:db8:1::/48',
      '2001:db8:1::/48',
      '192.0.2.1',
    ]);
  });

  test('a count by client also limits its home and its site, at three and thirty times the limit of a network', () => {
    const counted = countByClient(2, 60_000);
    for (let n = 0; n < 6; n += 1) counted.count(`2001:db8:0:${n}::1`);
    expect(['2001:db8:0:99::1', '2001:db8:0:100::1'].map(counted.isReached)).toEqual([true, false]);
    for (let n = 7; n < 61; n += 1) counted.count(`2001:db8:0:${n}00::1`);
    expect(['2001:db8:0:ff00::1', '2001:db8:1::1'].map(counted.isReached)).toEqual([true, false]);
  });

  test('an address in a text longer than any address is not read', () => {
    expect(networkOf(`192.0.2.1${' '.repeat(50)}`)).toBe('192.0.2.1');
    expect(networkOf(`192.0.2.1${' '.repeat(8_000)}`)).toBe('unknown');
  });

  test('different spellings of one address count as one client', async () => {
    const server = await startTestServer({ TRUST_PROXY: '10.0.0.0/8' });
    const from = (client: string) =>
      postFrom(server, '/login', '10.0.0.1', WRONG, { 'x-forwarded-for': client });
    const spelt = ['2001:db8::1', '[2001:db8::2]:80', '2001:0DB8::3', '2001:db8:0:0:1::', '[2001:db8::9]'];
    for (const client of [...spelt, ...spelt]) expect((await from(client)).statusCode).toBe(401);
    expectTooMany(await from('2001:db8:0:0:ffff::1'));
    expect((await from('2001:db8:0:1::1')).statusCode).toBe(401);
  });
});

slowTest(
  'after thirty failed logins from one /56 of IPv6, or three hundred from one /48, the next login from it is 429',
  async () => {
    const server = await startTestServer();
    const failFrom = async (network: string): Promise<void> => {
      const answers = await Promise.all(
        Array.from({ length: 10 }, (_, n) =>
          postFrom(server, '/login', `${network}::1`, {
            ...WRONG,
            email: `${network.replaceAll(':', '-')}-${n}@example.com`,
          }),
        ),
      );
      expect(answers.map(({ statusCode }) => statusCode)).toEqual(Array(10).fill(401));
    };
    for (const network of ['1', '2', '3']) await failFrom(`2001:db8:0:${network}`);
    expectTooMany(await postFrom(server, '/login', '2001:db8:0:ff::1', WRONG));
    // Neighbours in the same /48 can log in until there are three hundred.
    for (let home = 1; home < 28; home += 1) await failFrom(`2001:db8:0:${home.toString(16)}00`);
    expectTooMany(await postFrom(server, '/login', '2001:db8:0:ff00::1', WRONG));
    expect((await postFrom(server, '/login', '2001:db8:1::1', WRONG)).statusCode).toBe(401);
  },
);

test.each([
  ['reset links are asked for', '/forgot', 200],
  ['reset links are used', '/reset/unknown', 404],
])(
  '%s up to 30 times in ten minutes from one network of IPv6, and 90 times from one home',
  async (_what, path, status) => {
    const server = await startTestServer(MAIL);
    const ask = async (n: number, network: string) =>
      (await postFrom(server, path, `2001:db8:0:${network}::1`, { email: `${n}@example.com` })).statusCode;
    for (let n = 0; n < 30; n += 1) expect(await ask(n, '0')).toBe(status);
    expect(await ask(30, '0')).toBe(429);
    for (let n = 31; n < 91; n += 1) expect(await ask(n, String(1 + (n % 2)))).toBe(status);
    expect(await ask(91, '4')).toBe(429);
    expect(await ask(92, '100')).toBe(status);
  },
);

test('after ten failed logins from one network the next login is 429, even with the right password', async () => {
  const server = await startTestServer();
  await signUp(server, 'ann@example.com');
  await failLogIns(server, 10, '192.0.2.1');
  const fields = { email: 'ann@example.com', password: PASSWORD };
  const answer = await postFrom(server, '/login', '192.0.2.1', fields);
  expect(answer.statusCode).toBe(429);
  expect(answer.body).toContain('action="/login"');
  expect(answer.body).toContain('Too many attempts');
  expect(answer.body).toContain('value="ann@example.com"');
  expect(answer.cookies).toEqual([]);
  expect((await postFrom(server, '/login', '192.0.2.2', fields)).statusCode).toBe(303);
});

test('20 wrong logins at once do not get around the limit', async () => {
  const server = await startTestServer();
  const answers = await Promise.all(
    Array.from({ length: 20 }, () => postFrom(server, '/login', '192.0.2.1', WRONG)),
  );
  expect(answers.filter((answer) => answer.statusCode === 401)).toHaveLength(10);
  expect(answers.filter((answer) => answer.statusCode === 429)).toHaveLength(10);
});

test('a successful login does not count towards the limit', async () => {
  const server = await startTestServer();
  await signUp(server, 'ann@example.com');
  await failLogIns(server, 9, '192.0.2.1');
  for (let time = 0; time < 3; time += 1) {
    const fields = { email: 'ann@example.com', password: PASSWORD };
    expect((await postFrom(server, '/login', '192.0.2.1', fields)).statusCode).toBe(303);
  }
  await failLogIns(server, 1, '192.0.2.1');
  const answer = await postFrom(server, '/login', '192.0.2.1', WRONG);
  expect(answer.statusCode).toBe(429);
});

test('ten minutes after the first failure the IP address may try again', async () => {
  vi.useFakeTimers({ toFake: ['Date'], now: START });
  onTestFinished(() => void vi.useRealTimers());
  const server = await startTestServer();
  await failLogIns(server, 10, '192.0.2.1');
  vi.setSystemTime(new Date(START.getTime() + 599_000));
  expect((await postFrom(server, '/login', '192.0.2.1', WRONG)).statusCode).toBe(429);
  vi.setSystemTime(new Date(START.getTime() + 601_000));
  expect((await postFrom(server, '/login', '192.0.2.1', WRONG)).statusCode).toBe(401);
});

test('the thirty-first sign-up from an IP address is 429 and makes no account', async () => {
  const server = await startTestServer();
  const from = (remoteAddress: string, n: number) =>
    postFrom(server, '/signup', remoteAddress, { email: `user${n}@example.com`, password: PASSWORD });
  for (let n = 1; n <= 30; n += 1) expect((await from('192.0.2.1', n)).statusCode).toBe(303);
  const answer = await from('192.0.2.1', 31);
  expect(answer.statusCode).toBe(429);
  expect(answer.body).toContain('action="/signup"');
  expect(answer.body).toContain('Too many attempts');
  expect(answer.body).toContain('value="user31@example.com"');
  expect(await server.db.user.count()).toBe(30);
  expect((await from('192.0.2.2', 31)).statusCode).toBe(303);
});

test('without a trusted proxy, a made-up X-Forwarded-For does not evade the limit', async () => {
  const server = await startTestServer();
  await failLogIns(server, 10, '192.0.2.1');
  const answer = await postFrom(server, '/login', '192.0.2.1', WRONG, { 'x-forwarded-for': '203.0.113.9' });
  expect(answer.statusCode).toBe(429);
});

test("behind a trusted proxy the limit counts the client's address", async () => {
  const server = await startTestServer({ TRUST_PROXY: '10.0.0.0/8' });
  const behind = (client: string, made = '') => ({ 'x-forwarded-for': `${made}${client}` });
  await failLogIns(server, 10, '10.0.0.1', behind('203.0.113.9'));
  const same = await postFrom(server, '/login', '10.0.0.2', WRONG, behind('203.0.113.9', '198.51.100.1, '));
  expect(same.statusCode).toBe(429);
  const other = await postFrom(server, '/login', '10.0.0.1', WRONG, behind('203.0.113.10'));
  expect(other.statusCode).toBe(401);
});

describe('wherever a password is asked for', () => {
  slowTest(
    'after 50 failures an account is locked, wherever they came from, until a reset link is used; other accounts are not affected',
    async () => {
      const server = await startTestServer();
      await signUp(server, 'ann@example.com');
      await signUp(server, 'bob@example.com');
      const from = (n: number, email: string, password: string) =>
        postFrom(server, '/login', `198.51.100.${n}`, { email, password });
      for (let n = 0; n < 50; n += 1)
        expect((await from(n, 'Ann@example.com', 'wrong')).statusCode).toBe(401);
      const refused = await from(60, 'ann@example.com', PASSWORD);
      expectTooMany(refused);
      expect(refused.body).toContain('Too many attempts');
      expect((await from(60, 'bob@example.com', PASSWORD)).statusCode).toBe(303);
      // Neither the refused nor the successful attempt counts for the IP address.
      await failLogIns(server, 10, '198.51.100.60');
      // Strangers cannot keep its owner out.
      const password = 'a new password';
      const path = await operatorResetPath(server);
      expect((await postFrom(server, path, '198.51.100.61', { password })).statusCode).toBe(303);
      expect((await from(61, 'ann@example.com', password)).statusCode).toBe(303);
    },
  );

  test('a refused attempt does not count: many correct ones at once lock nobody out', async () => {
    const server = await startTestServer();
    await signUp(server, 'ann@example.com');
    const logIn = () =>
      postFrom(server, '/login', '192.0.2.1', { email: 'ann@example.com', password: PASSWORD });
    const answers = await Promise.all(Array.from({ length: 20 }, logIn));
    for (const { statusCode } of answers) expect([303, 429]).toContain(statusCode);
    expect((await logIn()).statusCode).toBe(303);
  });

  const forms = [
    ['/settings/address', { email: 'new@example.com' }],
    ['/settings/password', { newPassword: 'battery staple' }],
    ['/settings/delete', {}],
  ] as const;

  test.each(forms)(
    'wrong passwords at %s count together with the failed logins from the IP address',
    async (url, fields) => {
      const server = await startTestServer();
      const { id, cookie } = await signUp(server, 'ann@example.com');
      const attempt = (currentPassword: string, address: string) =>
        postFrom(server, url, address, { ...fields, currentPassword }, { cookie });
      const before = await server.db.user.findUniqueOrThrow({ where: { id } });
      await failLogIns(server, 5, '192.0.2.1');
      for (let n = 0; n < 5; n += 1) expect((await attempt('wrong', '192.0.2.1')).statusCode).toBe(403);
      const refused = await attempt(PASSWORD, '192.0.2.1');
      expectTooMany(refused);
      expect(refused.body).toContain('Too many attempts');
      expectTooMany(await postFrom(server, '/login', '192.0.2.1', WRONG));
      expect(await server.db.user.findUniqueOrThrow({ where: { id } })).toEqual(before);
      expect((await attempt(PASSWORD, '192.0.2.2')).statusCode).toBe(303);
    },
  );

  test('the second sign-up of a double click counts together with the failed logins from the IP address', async () => {
    const server = await startTestServer();
    await signUp(server, 'ann@example.com');
    const again = (password: string, address: string) =>
      postFrom(server, '/signup', address, { email: 'ann@example.com', password });
    await failLogIns(server, 5, '192.0.2.1');
    for (let n = 0; n < 5; n += 1) expect((await again(`a guess ${n}`, '192.0.2.1')).statusCode).toBe(409);
    const refused = await again(PASSWORD, '192.0.2.1');
    expectTooMany(refused);
    expect(refused.body).toContain('Too many attempts');
    expectTooMany(await postFrom(server, '/login', '192.0.2.1', WRONG));
    expect(await server.db.session.count()).toBe(1);
    expect((await again(PASSWORD, '192.0.2.2')).statusCode).toBe(303);
  });

  slowTest('wrong passwords count together for one account, wherever they are typed', async () => {
    const server = await startTestServer();
    const { cookie } = await signUp(server, 'ann@example.com');
    const change = (n: number) => {
      const fields = { newPassword: 'battery staple', currentPassword: 'wrong' };
      return postFrom(server, '/settings/password', `198.51.100.${n}`, fields, { cookie });
    };
    const signUpAgain = (n: number) => {
      const fields = { email: 'Ann@example.com', password: 'some guess' };
      return postFrom(server, '/signup', `198.51.100.${n}`, fields);
    };
    for (let n = 0; n < 40; n += 1) expect((await change(n)).statusCode).toBe(403);
    for (let n = 40; n < 50; n += 1) expect((await signUpAgain(n)).statusCode).toBe(409);
    expectTooMany(await change(60));
    expectTooMany(await signUpAgain(61));
    const logIn = { email: 'ann@example.com', password: PASSWORD };
    expectTooMany(await postFrom(server, '/login', '198.51.100.62', logIn));
  });
});

describe('whether an address has an account', () => {
  test('is revealed to one client 30 times, by Settings and sign-up together', async () => {
    const server = await startTestServer();
    await signUp(server, 'taken@example.com');
    const ask = (cookie: string) =>
      postFrom(
        server,
        '/settings/address',
        '192.0.2.1',
        { email: 'taken@example.com', currentPassword: PASSWORD },
        { cookie },
      );
    for (const name of ['a', 'b', 'c']) {
      const { cookie } = await signUp(server, `${name}@example.com`);
      for (let n = 0; n < 10; n += 1) expect((await ask(cookie)).statusCode).toBe(409);
      expectTooMany(await ask(cookie));
    }
    expectTooMany(await ask((await signUp(server, 'd@example.com')).cookie));
    expectTooMany(
      await postFrom(server, '/signup', '192.0.2.1', { email: 'e@example.com', password: PASSWORD }),
    );
  });
});

describe('limits of one account', () => {
  type Call = (server: TestServer, person: Person) => Promise<LightMyRequestResponse>;
  const call =
    (method: 'GET' | 'POST' | 'DELETE', url: string): Call =>
    ({ app }, { cookie }) =>
      app.inject({ method, url, headers: { cookie } });

  /** The session ends with the old password, so each change gets a new one. */
  const changePassword: Call = async (server, person) => {
    const input = { currentPassword: PASSWORD, newPassword: PASSWORD };
    const answer = await postForm(server.app, '/settings/password', input, person.cookie);
    if (answer.statusCode === 303) person.cookie = cookiesOf(answer);
    return answer;
  };

  test.each([
    ['checkouts', 20, [call('POST', '/api/billing/checkout')]],
    ['portal visits', 20, [call('POST', '/api/billing/portal')]],
    ['deletions', 20, [call('POST', '/settings/delete')]],
    ['exports', 5, [call('GET', '/settings/export')]],
    ['changes of the password', 10, [changePassword]],
    ['emails that prove an address', 20, [call('POST', '/settings/verify')]],
    ['changes of the mail settings', 60, [call('POST', '/settings/mail')]],
    ['logouts of other devices', 60, [call('POST', '/settings/log-out-elsewhere')]],
    ['checks with Stripe for a payment', 100, [call('GET', '/settings?checkout=done')]],
    [
      'backups',
      120,
      [
        call('POST', '/api/backups'),
        call('GET', '/api/backups'),
        call('POST', '/api/backups/x/restore'),
        call('DELETE', '/api/backups/x'),
        call('POST', '/portfolio/backups/x/delete'),
      ],
    ],
  ] as const)('%s are limited to %i in ten minutes for an account', async (_name, most, calls) => {
    const server = await startTestServer();
    const [ann, bob] = [await signUp(server, 'ann@example.com'), await signUp(server, 'bob@example.com')];
    const next = (n: number, person: Person) => calls[n % calls.length]?.(server, person);
    for (let n = 0; n < most; n += 1) expect((await next(n, ann))?.statusCode).not.toBe(429);
    for (let n = 0; n < calls.length; n += 1) expect((await next(n, ann))?.statusCode).toBe(429);
    for (let n = 0; n < calls.length; n += 1) expect((await next(n, bob))?.statusCode).not.toBe(429);
  });
});

test('an account can change its address 20 times a day; only changes that are made count', async () => {
  vi.useFakeTimers({ toFake: ['Date'], now: START });
  onTestFinished(() => void vi.useRealTimers());
  const server = await startTestServer();
  const { cookie } = await signUp(server, 'ann@example.com');
  await signUp(server, 'taken@example.com');
  const change = (email: string, currentPassword = PASSWORD) =>
    postFrom(server, '/settings/address', '192.0.2.1', { email, currentPassword }, { cookie });
  const minutesLater = (minutes: number) =>
    vi.setSystemTime(new Date(START.getTime() + minutes * 60_000 + 1_000));
  for (let n = 0; n < 20; n += 1) {
    // Ten in ten minutes are allowed, and more wrong passwords than that would be refused.
    minutesLater(Math.floor(n / 5) * 11);
    expect((await change(`ann${n}@example.com`)).statusCode).toBe(303);
    if (n % 10 === 0) expect((await change('new@example.com', 'wrong')).statusCode).toBe(403);
    if (n % 10 === 5) expect((await change('taken@example.com')).statusCode).toBe(409);
  }
  minutesLater(60);
  const refused = await change('new@example.com');
  expectTooMany(refused);
  expect(Number(refused.headers['retry-after'])).toBeGreaterThan(22 * 60 * 60);
  expect(refused.body).toContain('20 times a day');
  expect(refused.body).toContain('value="new@example.com"');
  // This one cancels a change that is pending.
  expect((await change('ann19@example.com')).statusCode).toBe(303);
  minutesLater(24 * 60);
  expect((await change('new@example.com')).statusCode).toBe(303);
});

test('one IP address can make the server ask Stripe about a payment 100 times in ten minutes', async () => {
  const world = await startWorld();
  const people: Person[] = [];
  for (const name of ['a', 'b', 'c', 'd']) people.push(await signUp(world, `${name}@example.com`));
  const settings = async (n: number, remoteAddress: string) => {
    const headers = { cookie: people[n % people.length]?.cookie };
    return world.app.inject({ url: '/settings?checkout=done', headers, remoteAddress });
  };
  const notAsked = 'We cannot ask Stripe right now whether you have just paid.';
  // Without a checkout, Stripe need not be asked.
  for (let n = 0; n < 8; n += 1) expect((await settings(n, '192.0.2.1')).statusCode).toBe(200);
  for (const person of people) await pressUpgrade(world, person);
  for (let n = 0; n < 100; n += 1) expect((await settings(n, '192.0.2.1')).body).not.toContain(notAsked);
  // Somebody who has just paid gets the page all the same, and is asked not to pay again.
  const page = await settings(100, '192.0.2.1');
  expect([page.statusCode, page.body.includes(notAsked)]).toEqual([200, true]);
  expect(page.headers).not.toHaveProperty('retry-after');
  expect((await settings(101, '192.0.2.2')).body).not.toContain(notAsked);
});

test('pages do not wait behind requests that ask Stripe about a payment, of which one IP address can have two at a time', async () => {
  const world = await startWorld({}, { ...PATIENT, patienceMs: 10 * 60_000 });
  const people: Person[] = [];
  for (const name of ['a', 'b', 'c', 'd']) people.push(await signUp(world, `${name}@example.com`));
  for (const person of people) await pressUpgrade(world, person);
  const { sessions } = clientOf(world).checkout;
  const retrieve = sessions.retrieve.bind(sessions);
  let release = (): void => undefined;
  const answered = new Promise<void>((resolve) => (release = resolve));
  const asked = vi.spyOn(sessions, 'retrieve').mockImplementation(async (id: string) => {
    await answered;
    return retrieve(id);
  });
  const settings = async (n: number, remoteAddress: string) => {
    const headers = { cookie: people[n % people.length]?.cookie };
    return world.app.inject({ url: '/settings?checkout=done', headers, remoteAddress });
  };
  // As many as there are places for requests that read.
  const waiting = Array.from({ length: 16 }, (_, n) => settings(n, `192.0.2.${n % 8}`));
  await until(() => Promise.resolve(asked.mock.calls.length === 16 || undefined));
  expect((await world.app.inject({ url: '/', remoteAddress: '192.0.2.99' })).statusCode).toBe(200);
  expect((await settings(0, '192.0.2.0')).body).toContain('We cannot ask Stripe right now');
  release();
  for (const page of await Promise.all(waiting)) expect(page.body).not.toContain('We cannot ask Stripe');
  expect((await settings(0, '192.0.2.0')).body).not.toContain('We cannot ask Stripe');
});

test('one home with IPv6 can make the server ask Stripe about a payment 200 times in ten minutes', async () => {
  const world = await startWorld();
  const people: Person[] = [];
  for (const name of ['a', 'b', 'c', 'd']) people.push(await signUp(world, `${name}@example.com`));
  for (const person of people) await pressUpgrade(world, person);
  const isAsked = async (n: number, remoteAddress: string): Promise<boolean> => {
    const headers = { cookie: people[n % people.length]?.cookie };
    const { body } = await world.app.inject({ url: '/settings?checkout=done', headers, remoteAddress });
    return !body.includes('We cannot ask Stripe right now');
  };
  for (let n = 0; n < 200; n += 1) expect(await isAsked(n, `2001:db8:0:${n % 3}::1`)).toBe(true);
  expect(await isAsked(200, '2001:db8:0:3::1')).toBe(false);
  expect(await isAsked(201, '2001:db8:0:100::1')).toBe(true);
});

describe('checkouts and portal visits of all accounts together are limited in ten minutes', () => {
  const visit = (
    { app }: TestServer,
    { cookie }: Person,
    remoteAddress: string,
    where: 'portal' | 'checkout',
  ) => app.inject({ method: 'POST', url: `/api/billing/${where}`, headers: { cookie }, remoteAddress });

  test.each([
    ['to 100 from one IP address', 100, () => '192.0.2.1', '192.0.2.1', '192.0.2.2'],
    [
      'to 200 from one home with IPv6',
      200,
      (n: number) => `2001:db8:0:${n % 3}::1`,
      '2001:db8:0:3::1',
      '2001:db8:0:100::1',
    ],
  ])('%s', async (_name, most, addressOf, refused, allowed) => {
    const server = await startTestServer();
    let person = await signUp(server, 'first@example.com');
    for (let n = 0; n < most; n += 1) {
      if (n > 0 && n % 20 === 0) person = await signUp(server, `friend${n}@example.com`);
      const where = n % 2 === 0 ? 'portal' : 'checkout';
      expect((await visit(server, person, addressOf(n), where)).statusCode).not.toBe(429);
    }
    const next = await signUp(server, 'next@example.com');
    for (const where of ['portal', 'checkout'] as const) {
      expectTooMany(await visit(server, next, refused, where));
      expect((await visit(server, next, allowed, where)).statusCode).not.toBe(429);
    }
  });
});

test('requests refused by an account’s limit do not count towards its network’s limit', async () => {
  const server = await startTestServer();
  const [ann, bob] = [await signUp(server, 'ann@example.com'), await signUp(server, 'bob@example.com')];
  const visit = ({ cookie }: Person) =>
    server.app.inject({ method: 'POST', url: '/api/billing/portal', headers: { cookie } });
  for (let n = 0; n < 20; n += 1) expect((await visit(ann)).statusCode).not.toBe(429);
  for (let n = 0; n < 300; n += 1) expect((await visit(ann)).statusCode).toBe(429);
  expect((await visit(bob)).statusCode).not.toBe(429);
});

test('an IP address may ask for 300 paths that do not exist; the webhook and other paths are not affected', async () => {
  const server = await startTestServer();
  const ask = (n: number, remoteAddress: string) =>
    server.app.inject({ url: n % 2 === 0 ? `/no-such-page-${n}` : `/api/no-such-${n}`, remoteAddress });
  for (let n = 0; n < 300; n += 1) expect((await ask(n, '127.0.0.1')).statusCode).toBe(404);
  const page = await ask(300, '127.0.0.1');
  expectTooMany(page);
  expect(page.headers['content-type']).toMatch(/^text\/html/);
  expect((await ask(301, '127.0.0.1')).json()).toMatchObject({ error: { code: 'too_many_requests' } });
  expect((await ask(302, '192.0.2.2')).statusCode).toBe(404);
  expect((await server.app.inject({ url: '/pricing' })).statusCode).toBe(200);
  expect((await deliverRaw(server.app, '{}')).statusCode).toBe(400);
});

test('the body of a backup is not read when its sender may not make one', async () => {
  const server = await startTestServer();
  const { cookie } = await signUp(server, 'ann@example.com');
  const payload = `"${'x'.repeat(300 * 1024)}"`;
  const send = (headers: Record<string, string>) =>
    server.app.inject({
      method: 'POST',
      url: '/api/backups',
      headers: { 'content-type': 'application/json', ...headers },
      payload,
    });
  expect((await send({})).statusCode).toBe(401);
  expect((await send({ cookie })).statusCode).toBe(402);
});
