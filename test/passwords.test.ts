import { hash } from '@node-rs/argon2';
import { describe, expect, test, vi } from 'vitest';

import { BAD_PASSWORD } from '../src/accounts/passwords.ts';
import { BOUNDS } from '../src/http/bounds.ts';
import { operatorResetPath } from './support/command-context.ts';
import { until } from './support/process.ts';
import {
  cookiesOf,
  logIn,
  loginStatus,
  PASSWORD,
  PATIENT,
  postForm,
  postFrom,
  signUp,
  START,
  startTestServer,
} from './support/server.ts';
import type { TestServer } from './support/server.ts';

test('a password that is too long is refused before it is normalised, which takes quadratic time', async () => {
  const server = await startTestServer();
  const ann = await signUp(server, 'ann@example.com');
  const unused = await operatorResetPath(server);
  await signUp(server, 'cid@example.com');
  const used = await operatorResetPath(server, 'cid@example.com');
  expect((await postForm(server.app, used, { password: 'battery staple' })).statusCode).toBe(303);
  const long = '\u0344'.repeat(500) + '\u0334'.repeat(500);
  const normalize = vi.spyOn(String.prototype, 'normalize');
  const typed: [string, Record<string, string>, number][] = [
    ['/signup', { email: 'ben@example.com', password: long }, 400],
    ['/login', { email: 'ann@example.com', password: long }, 400],
    ['/settings/password', { currentPassword: PASSWORD, newPassword: long }, 400],
    ['/settings/password', { currentPassword: long, newPassword: 'battery staple' }, 400],
    ['/settings/delete', { currentPassword: long }, 400],
    [unused, { password: long }, 400],
    [used, { password: long }, 404],
    ['/settings/address', { email: 'new@example.com', currentPassword: long }, 400],
  ];
  for (const [path, fields, status] of typed) {
    expect((await postForm(server.app, path, fields, ann.cookie)).statusCode, path).toBe(status);
  }
  expect(normalize.mock.contexts.filter((text) => String(text).length > 200)).toEqual([]);
});

test('every form for a new password has the limits that the server checks', async () => {
  const server = await startTestServer();
  const ann = await signUp(server, 'ann@example.com');
  const [, shortest = '', longest = ''] = /(\d+) to (\d+) characters/.exec(BAD_PASSWORD) ?? [];
  for (const url of ['/signup', '/settings', await operatorResetPath(server)]) {
    const cookie = url === '/settings' ? ann.cookie : '';
    const { body } = await server.app.inject({ url, headers: { cookie } });
    const [field = ''] = /<input[^>]*autocomplete="new-password"[^>]*>/.exec(body) ?? [];
    expect(field, url).toContain(`minlength="${shortest}"`);
    expect(field, url).toContain(`maxlength="${longest}"`);
    expect(body, url).toContain(`At least ${shortest} characters.`);
  }
});

describe('a password typed on another keyboard', () => {
  const composed = 'pass\u00e9word\ufb01';
  const decomposed = 'passe\u0301wordfi';

  test.each([
    [composed, decomposed],
    [decomposed, composed],
  ])('one password in two Unicode forms logs in: %s, then %s', async (first, then) => {
    const server = await startTestServer();
    await postForm(server.app, '/signup', { email: 'ann@example.com', password: first });
    expect(await loginStatus(server, 'ann@example.com', then)).toBe(303);
    expect(await loginStatus(server, 'ann@example.com', 'passeword\ufb01')).toBe(401);
  });

  test('a hash from before passwords were normalised still matches, and the next login replaces it', async () => {
    const server = await startTestServer();
    const ann = await signUp(server, 'ann@example.com');
    const old = await hash(decomposed);
    await server.db.user.update({ where: { id: ann.id }, data: { passwordHash: old } });
    // A login must succeed even if another one replaced the hash meanwhile.
    const answers = await Promise.all([1, 2, 3].map(() => logIn(server, 'ann@example.com', decomposed)));
    expect(answers.map(({ statusCode }) => statusCode)).toEqual([303, 303, 303]);
    expect((await server.db.user.findUniqueOrThrow({ where: { id: ann.id } })).passwordHash).not.toBe(old);
    expect(await loginStatus(server, 'ann@example.com', composed)).toBe(303);
  });
});

describe('a password that is refused', () => {
  const common = 'one of the ten thousand most common passwords';
  const refused: [string, string][] = [
    ['password', common],
    ['PassWord', common],
    ['12345678', common],
    ['11111111', common],
    ['qwertyuiop', common],
    ['\uff50\uff41\uff53\uff53\uff57\uff4f\uff52\uff44', common],
    ['        ', 'more than spaces'],
    ['\u00a0\u2003\u3000\t  \u200b\u200b\u00ad', 'more than spaces'],
    ['\ud83d\ude00\ud83d\ude00\ud83d\ude00\ud83d\ude00', '8 to 200 characters'],
  ];

  test.each(refused)('the weak password %j is refused at sign-up with the reason', async (password, why) => {
    const { app, db } = await startTestServer();
    const answer = await postForm(app, '/signup', { email: 'ann@example.com', password });
    expect(answer.statusCode).toBe(400);
    expect(answer.body).toContain(why);
    expect(await db.user.count()).toBe(0);
  });

  test('a weak password is also refused in Settings and by a reset link', async () => {
    const server = await startTestServer();
    const ann = await signUp(server, 'ann@example.com');
    const fields = { currentPassword: PASSWORD, newPassword: 'iloveyou' };
    const changed = await postForm(server.app, '/settings/password', fields, ann.cookie);
    expect(changed.statusCode).toBe(400);
    expect(changed.body).toContain(common);
    const reset = await postForm(server.app, await operatorResetPath(server), { password: 'iloveyou' });
    expect(reset.statusCode).toBe(400);
    expect(reset.body).toContain(common);
    expect(await loginStatus(server, 'ann@example.com', PASSWORD)).toBe(303);
  });

  test('a weak password chosen earlier still logs its owner in', async () => {
    const server = await startTestServer();
    const ann = await signUp(server, 'ann@example.com');
    const passwordHash = await hash('password');
    await server.db.user.update({ where: { id: ann.id }, data: { passwordHash } });
    expect(await loginStatus(server, 'ann@example.com', 'password')).toBe(303);
  });
});

describe('password hashing is bounded', () => {
  /** A different client each time, so that no limit by IP address applies. */
  const from = (n: number) => `198.51.100.${n}`;

  const many = Array.from({ length: 120 }, (_, n) => n);

  /** One of a few accounts, so that no limit by account applies. */
  const someone = (n: number) => `${['ann', 'bob', 'cleo', 'dan'][n % 4] ?? ''}@example.com`;

  /** A server on which at most thirty requests wait for hashing. */
  const busyServer = () =>
    startTestServer({}, undefined, { ...PATIENT, hashing: { ofSite: 8, inAll: 8, waitingInAll: 30 } });

  async function signUpAll(server: TestServer): Promise<void> {
    for (const n of [0, 1, 2, 3]) await signUp(server, someone(n));
  }

  test('too many logins at once are 503 with Retry-After, and static files are still served', async () => {
    const server = await busyServer();
    await signUpAll(server);
    const answered: string[] = [];
    const logIns = many.map(async (n) => {
      const answer = await postFrom(server, '/login', from(n), { email: someone(n), password: PASSWORD });
      if (answer.statusCode === 303) answered.push('login');
      return answer;
    });
    const file = await server.app.inject({ url: '/public/style.css' });
    answered.push('file');
    expect(file.statusCode).toBe(200);

    const answers = await Promise.all(logIns);
    const refused = answers.filter(({ statusCode }) => statusCode === 503);
    expect(refused.length).toBeGreaterThan(0);
    expect(answers.filter(({ statusCode }) => statusCode === 303)).toHaveLength(many.length - refused.length);
    for (const answer of refused) {
      expect(answer.headers['retry-after']).toBe('5');
      expect(answer.body).toContain('Too many people are logging in');
    }
    // Hashing does not use every thread: the file did not wait for all of it.
    expect(answered.at(-1)).toBe('login');
    expect(await loginStatus(server, 'ann@example.com', PASSWORD)).toBe(303);
  });

  test('a login refused because hashing is busy does not count as failed', async () => {
    const server = await busyServer();
    await signUpAll(server);
    const answers = await Promise.all(
      many.map((n) => postFrom(server, '/login', from(n), { email: someone(n), password: PASSWORD })),
    );
    const refused = answers.findIndex(({ statusCode }) => statusCode === 503);
    expect(refused).not.toBe(-1);
    const wrong = { email: 'ann@example.com', password: 'wrong password' };
    for (let n = 0; n < 10; n += 1)
      expect((await postFrom(server, '/login', from(refused), wrong)).statusCode).toBe(401);
    expect((await postFrom(server, '/login', from(refused), wrong)).statusCode).toBe(429);
  });

  test('sixteen people behind one address who log in at the same instant all get in', async () => {
    const { ofSite } = BOUNDS.hashing;
    const server = await startTestServer({}, undefined, {
      ...PATIENT,
      hashing: { ofSite, inAll: 16, waitingInAll: 30 },
    });
    const emails = Array.from({ length: 16 }, (_, n) => `person${n}@example.com`);
    for (const email of emails) await signUp(server, email);
    const answers = await Promise.all(
      emails.map((email) => postFrom(server, '/login', from(1), { email, password: PASSWORD })),
    );
    expect(answers.map(({ statusCode }) => statusCode)).toEqual(emails.map(() => 303));
  });

  test.each(['/login', '/signup', '/reset/x', '/settings/password', '/logout', '/verify/x', '/forgot'])(
    'the body of a request to %s is limited to 8 KiB',
    async (url) => {
      const server = await startTestServer();
      const { cookie } = await signUp(server, 'ann@example.com');
      const post = (kib: number) => postForm(server.app, url, { filler: 'x'.repeat(kib * 1024) }, cookie);
      expect((await post(7)).statusCode).not.toBe(413);
      expect((await post(8)).statusCode).toBe(413);
    },
  );

  test('the longest password that can be set fits into the form', async () => {
    const server = await startTestServer();
    const password = '\u{1f600}'.repeat(100);
    const fields = { email: `${'a'.repeat(60)}@example.com`, password };
    expect((await postForm(server.app, '/signup', fields)).statusCode).toBe(303);
  });

  test('an invalid reset link costs no hashing', async () => {
    // All requests may hash at once, so they wait only for a thread, in the order in which they come.
    const bounds = { ...PATIENT, hashing: { ofSite: 8, inAll: many.length, waitingInAll: many.length } };
    const server = await startTestServer({}, undefined, bounds);
    const composed = vi.spyOn(String.prototype, 'normalize');
    const answered: string[] = [];
    const logIns = many.slice(0, 40).map(async (n) => {
      const fields = { email: `nobody${n}@example.com`, password: 'wrong password' };
      await postFrom(server, '/login', from(n), fields);
      answered.push('login');
    });
    // A password is composed right before it waits for a thread.
    const waiting = () => composed.mock.contexts.filter((text) => String(text) === 'wrong password').length;
    await until(() => Promise.resolve(waiting() >= logIns.length || undefined));
    const reset = await postFrom(server, '/reset/x', from(41), { password: 'battery staple' });
    answered.push('reset');
    expect(reset.statusCode).toBe(404);
    await Promise.all(logIns);
    expect(answered.at(-1)).toBe('login');
  });

  test('an invalid reset link says nothing about the new password', async () => {
    const server = await startTestServer();
    const answer = await postFrom(server, '/reset/x', from(1), { password: '1' });
    expect(answer.statusCode).toBe(404);
    expect(answer.body).toContain('This link no longer works');
  });

  test('the thirty-first reset from an IP address is 429, and other IP addresses are not affected', async () => {
    const server = await startTestServer();
    await signUp(server, 'ann@example.com');
    const fields = { password: 'battery staple' };
    for (let n = 0; n < 30; n += 1)
      expect((await postFrom(server, '/reset/x', from(1), fields)).statusCode).toBe(404);
    const path = await operatorResetPath(server);
    const refused = await postFrom(server, path, from(1), fields);
    expect(refused.statusCode).toBe(429);
    expect(refused.body).toContain('Too many attempts');
    expect((await postFrom(server, path, from(2), fields)).statusCode).toBe(303);
  });
});

test('the second request of a double click on a reset form gives the answer of the first', async () => {
  const server = await startTestServer();
  await signUp(server, 'ann@example.com');
  const path = await operatorResetPath(server);
  const press = (password: string) => postForm(server.app, path, { password });
  const twice = [await press('battery staple'), await press('battery staple')];
  for (const { statusCode, headers, cookies } of twice) {
    expect({ statusCode, location: headers.location }).toEqual({ statusCode: 303, location: '/login' });
    expect(cookies).toContainEqual(
      expect.objectContaining({ name: 'tandem_flash', value: 'password-reset' }),
    );
  }
  expect((await press('another staple')).statusCode).toBe(404);
  expect((await server.app.inject({ url: path })).statusCode).toBe(404);
  expect(await loginStatus(server, 'ann@example.com', 'battery staple')).toBe(303);
  server.clock.now = new Date(START.getTime() + 60_000);
  expect((await press('battery staple')).statusCode).toBe(404);
});

test('a used reset link cannot be used to guess passwords', async () => {
  const server = await startTestServer();
  await signUp(server, 'ann@example.com');
  const path = await operatorResetPath(server);
  const press = (password: string) => postFrom(server, path, '192.0.2.1', { password });
  expect((await press('battery staple')).statusCode).toBe(303);
  for (let n = 0; n < 10; n += 1) expect((await press(`guess ${n} of ten`)).statusCode).toBe(404);
  expect((await press('battery staple')).statusCode).toBe(404);
  const fields = { email: 'ann@example.com', password: 'battery staple' };
  expect((await postFrom(server, '/login', '192.0.2.1', fields)).statusCode).toBe(429);
});

test('a reset ends every session and every other reset link', async () => {
  const server = await startTestServer();
  const ann = await signUp(server, 'ann@example.com');
  const elsewhere = cookiesOf(await logIn(server, 'ann@example.com', PASSWORD));
  const path = await operatorResetPath(server);
  expect((await postForm(server.app, path, { password: 'battery staple' })).statusCode).toBe(303);
  for (const cookie of [ann.cookie, elsewhere]) {
    const me = await server.app.inject({ url: '/api/me', headers: { cookie } });
    expect(me.statusCode).toBe(401);
  }
  expect(await server.db.resetLink.count({ where: { used: false } })).toBe(0);
  expect((await postForm(server.app, path, { password: 'another staple' })).statusCode).toBe(404);
  expect(await loginStatus(server, 'ann@example.com', 'battery staple')).toBe(303);
});
