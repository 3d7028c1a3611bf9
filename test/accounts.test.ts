import type { LightMyRequestResponse } from 'fastify';
import { expect, test } from 'vitest';

import { changeAddress } from '../src/accounts/change-address.ts';
import { operatorResetPath } from './support/command-context.ts';
import {
  cookiesOf,
  DAY,
  daysAfter,
  logIn,
  me,
  PASSWORD,
  postForm,
  SESSION_SECRET,
  signUp,
  START,
  startTestServer,
} from './support/server.ts';
import type { TestServer } from './support/server.ts';

const MONTH = 30 * DAY;
const NEW_PASSWORD = 'battery staple';

/** The address that the server shows for this cookie; null for a visitor. */
async function whoIs(server: TestServer, cookie: string): Promise<string | null> {
  return (await me(server, { cookie }))?.email ?? null;
}

function sessionCookie(answer: LightMyRequestResponse) {
  return answer.cookies.find((cookie) => cookie.name === 'tandem_session');
}

function tokenOf(cookie: string): string {
  return cookie.replace(/^.*tandem_session=([^;]+).*$/, '$1');
}

test('signing up makes a free account, logs the browser in and leads to Settings', async () => {
  const server = await startTestServer();
  const answer = await postForm(server.app, '/signup', { email: 'ann@example.com', password: PASSWORD });
  expect(answer.statusCode).toBe(303);
  expect(answer.headers.location).toBe('/settings');
  expect(await whoIs(server, cookiesOf(answer))).toBe('ann@example.com');
  expect(await server.db.user.findUniqueOrThrow({ where: { email: 'ann@example.com' } })).toMatchObject({
    tier: 'free',
    creditUntil: null,
    creditHeldAt: null,
    createdAt: START,
  });
});

test('an address is stored trimmed and in lower case', async () => {
  const { app, db } = await startTestServer();
  await postForm(app, '/signup', { email: '  Ann@Example.COM ', password: PASSWORD });
  expect(await db.user.findMany({ select: { email: true } })).toEqual([{ email: 'ann@example.com' }]);
});

test('the session cookie is HttpOnly and SameSite, and lasts 30 days', async () => {
  const { app } = await startTestServer();
  const answer = await postForm(app, '/signup', { email: 'ann@example.com', password: PASSWORD });
  const cookie = sessionCookie(answer);
  expect(cookie).toMatchObject({ path: '/', httpOnly: true, sameSite: 'Lax', maxAge: MONTH });
  expect(cookie?.secure).toBeUndefined();
});

test('on https every cookie is Secure, and a sibling domain cannot set it', async () => {
  const server = await startTestServer({ PUBLIC_URL: 'https://tandem.test' });
  const ann = await signUp(server, 'ann@example.com');
  const visit = await server.app.inject({ url: `/r/${ann.code}` });
  const answer = await postForm(
    server.app,
    '/signup',
    { email: 'bob@example.com', password: PASSWORD },
    cookiesOf(visit),
  );
  const changed = await postForm(server.app, '/settings/log-out-elsewhere', {}, cookiesOf(answer));
  const cookies = [visit, answer, changed].flatMap((one) => one.cookies).filter(({ value }) => value !== '');
  expect(cookies.map(({ name }) => name)).toEqual([
    '__Host-tandem_ref',
    '__Host-tandem_session',
    '__Host-tandem_flash',
  ]);
  for (const cookie of cookies) {
    expect(cookie).toMatchObject({ secure: true, path: '/' });
    expect(cookie['domain']).toBeUndefined();
  }
  expect(await server.db.referral.count()).toBe(1);
});

test('on https a session cookie without the __Host- prefix is rejected, and an invitation cookie without it still counts', async () => {
  const server = await startTestServer({ PUBLIC_URL: 'https://tandem.test' });
  const ann = await signUp(server, 'ann@example.com');
  expect(await whoIs(server, ann.cookie)).toBe('ann@example.com');
  expect(await whoIs(server, ann.cookie.replace('__Host-', ''))).toBeNull();
  const fields = { email: 'bob@example.com', password: PASSWORD };
  const answer = await postForm(server.app, '/signup', fields, `tandem_ref=${ann.code}`);
  expect(answer.cookies).toContainEqual(expect.objectContaining({ name: 'tandem_ref', value: '' }));
  expect(await server.db.referral.count()).toBe(1);
});

test('neither the password nor the session token is stored in plain text', async () => {
  const server = await startTestServer();
  const ann = await signUp(server, 'ann@example.com');
  const rows = JSON.stringify([await server.db.user.findMany(), await server.db.session.findMany()]);
  expect(rows).toContain('$argon2id$');
  expect(rows).not.toContain(PASSWORD);
  expect(rows).not.toContain(tokenOf(ann.cookie));
});

test('every account gets a code of its own without characters that are easily confused when read aloud', async () => {
  const server = await startTestServer();
  const codes = new Set<string>();
  for (let n = 0; n < 12; n += 1) codes.add((await signUp(server, `user${n}@example.com`)).code);
  expect(codes.size).toBe(12);
  for (const code of codes) expect(code).toMatch(/^[2-9A-HJKMNP-Z]{8}$/);
});

const bad = 'Enter an email address';
const weak = 'Choose a password of 8 to 200 characters';

test.each([
  ['no address', { password: PASSWORD }, bad],
  ['an empty address', { email: '', password: PASSWORD }, bad],
  ['an address without @', { email: 'ann.example.com', password: PASSWORD }, bad],
  ['an address with a space in it', { email: 'an n@example.com', password: PASSWORD }, bad],
  ['two addresses', { email: 'a@example.com, b@example.com', password: PASSWORD }, bad],
  ['an address with a line break in it', { email: 'a@example.com\r\nbcc: b', password: PASSWORD }, bad],
  ['an address of 255 characters', { email: `ann@${'a.'.repeat(123)}tests`, password: PASSWORD }, bad],
  ['no password', { email: 'ann@example.com' }, weak],
  ['a password of 7 characters', { email: 'ann@example.com', password: '1234567' }, weak],
  ['a password of 201 characters', { email: 'ann@example.com', password: 'p'.repeat(201) }, weak],
])(
  'sign-up with %s shows the form again with the reason and makes no account',
  async (_name, fields, message) => {
    const { app, db } = await startTestServer();
    const answer = await postForm(app, '/signup', fields);
    expect(answer.statusCode).toBe(400);
    expect(answer.body).toContain('action="/signup"');
    expect(answer.body).toContain(message);
    expect(await db.user.count()).toBe(0);
  },
);

test('an empty sign-up says what is missing', async () => {
  const { app } = await startTestServer();
  const answer = await app.inject({ method: 'POST', url: '/signup' });
  expect(answer.statusCode).toBe(400);
  expect(answer.body).toContain(bad);
  expect(answer.body).toContain(weak);
});

test.each([8, 200])('a password of %i characters is accepted', async (length) => {
  const server = await startTestServer();
  const password = 'xk'.repeat(length / 2);
  const answer = await postForm(server.app, '/signup', { email: 'ann@example.com', password });
  expect(answer.statusCode).toBe(303);
  expect((await logIn(server, 'ann@example.com', password)).statusCode).toBe(303);
});

test.each(['/signup', '/login'])(
  '%s shows the typed address again, escaped, and never the password',
  async (url) => {
    const { app } = await startTestServer();
    const answer = await postForm(app, url, { email: '"><script>alert(1)</script>', password: 'secret7' });
    expect(answer.statusCode).toBe(400);
    expect(answer.body).toContain('value="&quot;&gt;&lt;script&gt;alert(1)&lt;/script&gt;"');
    expect(answer.body).not.toContain('<script>alert');
    expect(answer.body).not.toContain('secret7');
  },
);

test('an address has one account, in upper or lower case', async () => {
  const server = await startTestServer();
  await signUp(server, 'ann@example.com');
  const answer = await postForm(server.app, '/signup', { email: 'ANN@example.com', password: NEW_PASSWORD });
  expect(answer.statusCode).toBe(409);
  expect(answer.body).toContain('already has an account');
  expect(answer.body).toContain('value="ANN@example.com"');
  expect(sessionCookie(answer)).toBeUndefined();
  expect(await server.db.user.count()).toBe(1);
  expect((await logIn(server, 'ann@example.com', PASSWORD)).statusCode).toBe(303);
});

test('a mailbox has at most a hundred accounts under its +tags, but its plain address can always have one', async () => {
  const server = await startTestServer();
  const first = await signUp(server, 'ann+1@example.com');
  const template = await server.db.user.findUniqueOrThrow({ where: { id: first.id } });
  const more = Array.from({ length: 99 }, (_, n) => `more${n}`);
  await server.db.user.createMany({
    data: more.map((id) => ({ ...template, id, code: id, email: `ann+${id}@example.com` })),
  });
  const refused = await postForm(server.app, '/signup', { email: 'ann+one@example.com', password: PASSWORD });
  expect([refused.statusCode, refused.body]).toEqual([
    409,
    expect.stringContaining('Too many accounts use this mailbox.'),
  ]);
  const bob = await signUp(server, 'bob@example.com');
  const address = { email: 'ann+one@example.com', currentPassword: PASSWORD };
  const changed = await postForm(server.app, '/settings/address', address, bob.cookie);
  expect(changed.statusCode).toBe(409);
  const own = await postForm(server.app, '/settings/address', address, first.cookie);
  expect(own.statusCode).toBe(303);
  for (const email of ['ann@example.com', 'bob+one@example.com'])
    expect((await postForm(server.app, '/signup', { email, password: PASSWORD })).statusCode).toBe(303);
});

test('a sign-up form submitted several times by a double click makes one account, and each answer logs in', async () => {
  const server = await startTestServer();
  const fields = { email: 'ann@example.com', password: PASSWORD };
  const answers = await Promise.all(Array.from({ length: 6 }, () => postForm(server.app, '/signup', fields)));
  expect(answers.map((answer) => answer.statusCode)).toEqual([303, 303, 303, 303, 303, 303]);
  for (const answer of answers) expect(await whoIs(server, cookiesOf(answer))).toBe('ann@example.com');
  expect(await server.db.user.count()).toBe(1);
});

test('of simultaneous sign-ups with one address and different passwords, one makes the account and the others see the form again', async () => {
  const { app, db } = await startTestServer();
  const answers = await Promise.all(
    Array.from({ length: 6 }, (_, n) =>
      postForm(app, '/signup', { email: 'ann@example.com', password: `${PASSWORD} ${n}` }),
    ),
  );
  expect(answers.map((answer) => answer.statusCode).sort()).toEqual([303, 409, 409, 409, 409, 409]);
  expect(await db.user.count()).toBe(1);
  expect(await db.session.count()).toBe(1);
});

test('a minute after signing up, the sign-up form no longer logs in with that address and password', async () => {
  const server = await startTestServer();
  await signUp(server, 'ann@example.com');
  const fields = { email: 'ann@example.com', password: PASSWORD };
  server.clock.now = new Date(START.getTime() + 59_000);
  expect((await postForm(server.app, '/signup', fields)).statusCode).toBe(303);
  server.clock.now = new Date(START.getTime() + 60_000);
  expect((await postForm(server.app, '/signup', fields)).statusCode).toBe(409);
});

test('signing up ends the session that the browser had before', async () => {
  const server = await startTestServer();
  const ann = await signUp(server, 'ann@example.com');
  const fields = { email: 'bob@example.com', password: PASSWORD };
  const answer = await postForm(server.app, '/signup', fields, ann.cookie);
  expect(await whoIs(server, cookiesOf(answer))).toBe('bob@example.com');
  expect(await whoIs(server, ann.cookie)).toBeNull();
});

test('the right password logs in, whatever the case of the address', async () => {
  const server = await startTestServer();
  await signUp(server, 'ann@example.com');
  const answer = await logIn(server, ' ANN@Example.com ');
  expect(answer.statusCode).toBe(303);
  expect(answer.headers.location).toBe('/settings');
  expect(sessionCookie(answer)).toMatchObject({ path: '/', httpOnly: true, sameSite: 'Lax', maxAge: MONTH });
  expect(await whoIs(server, cookiesOf(answer))).toBe('ann@example.com');
});

test('a wrong password and an unknown address get the same answer', async () => {
  const server = await startTestServer();
  await signUp(server, 'ann@example.com');
  const wrong = await logIn(server, 'ann@example.com', 'wrong password');
  const unknown = await logIn(server, 'bob@example.com', 'wrong password');
  expect(wrong.statusCode).toBe(401);
  expect(wrong.body).toContain('The email address or the password is wrong.');
  expect(unknown.statusCode).toBe(401);
  expect(unknown.body.replaceAll('bob@', 'ann@')).toBe(wrong.body);
  expect(wrong.body).not.toContain('wrong password"');
  expect(sessionCookie(wrong)).toBeUndefined();
});

test.each([
  ['differs in case', PASSWORD.toUpperCase()],
  ['has a trailing space', `${PASSWORD} `],
  ['is only the beginning of the right one', PASSWORD.slice(0, -1)],
])('a password that %s is wrong', async (_name, password) => {
  const server = await startTestServer();
  await signUp(server, 'ann@example.com');
  expect((await logIn(server, 'ann@example.com', password)).statusCode).toBe(401);
});

test('logging in ends the session that the browser had before and starts a new one', async () => {
  const server = await startTestServer();
  const ann = await signUp(server, 'ann@example.com');
  const answer = await logIn(server, 'ann@example.com', PASSWORD, ann.cookie);
  expect(cookiesOf(answer)).not.toBe(ann.cookie);
  expect(await whoIs(server, ann.cookie)).toBeNull();
  expect(await whoIs(server, cookiesOf(answer))).toBe('ann@example.com');
});

test('an account has at most 100 sessions: one more ends the least recently used one', async () => {
  const server = await startTestServer();
  const { id, cookie } = await signUp(server, 'ann@example.com');
  const days = Array.from({ length: 99 }, (_, index) => index / 4);
  await server.db.session.createMany({
    data: days.map((day) => ({ tokenHash: `after ${day} days`, userId: id, expiresAt: daysAfter(day + 1) })),
  });
  expect((await logIn(server, 'ann@example.com')).statusCode).toBe(303);
  expect(await server.db.session.count()).toBe(100);
  expect(await server.db.session.count({ where: { tokenHash: 'after 0 days' } })).toBe(0);
  expect(await whoIs(server, cookie)).toBe('ann@example.com');
});

test('a wrong login shows the form again to somebody who is logged in, too', async () => {
  const server = await startTestServer();
  const ann = await signUp(server, 'ann@example.com');
  const answer = await logIn(server, 'bob@example.com', 'wrong password', ann.cookie);
  expect(answer.statusCode).toBe(401);
  expect(answer.body).toContain('The email address or the password is wrong.');
});

test('a failed sign-up shows the form again even when already logged in', async () => {
  const server = await startTestServer();
  const ann = await signUp(server, 'ann@example.com');
  const answer = await postForm(
    server.app,
    '/signup',
    { email: 'ann@example.com', password: NEW_PASSWORD },
    ann.cookie,
  );
  expect(answer.statusCode).toBe(409);
  expect(answer.body).toContain('already has an account');
});

test('logging out ends the session and redirects to the start page', async () => {
  const server = await startTestServer();
  const ann = await signUp(server, 'ann@example.com');
  const elsewhere = cookiesOf(await logIn(server, 'ann@example.com'));
  const answer = await postForm(server.app, '/logout', {}, ann.cookie);
  expect(answer.statusCode).toBe(303);
  expect(answer.headers.location).toBe('/');
  expect(sessionCookie(answer)).toMatchObject({ value: '', maxAge: 0 });
  expect(await whoIs(server, ann.cookie)).toBeNull();
  expect(await whoIs(server, elsewhere)).toBe('ann@example.com');
});

test('logging out without a session also redirects to the start page', async () => {
  const { app } = await startTestServer();
  const answer = await postForm(app, '/logout', {});
  expect(answer.statusCode).toBe(303);
  expect(answer.headers.location).toBe('/');
});

test.each(['/login', '/signup'])('%s redirects a logged-in user to Settings', async (url) => {
  const server = await startTestServer();
  const ann = await signUp(server, 'ann@example.com');
  const answer = await server.app.inject({ url, headers: { cookie: ann.cookie } });
  expect(answer.statusCode).toBe(303);
  expect(answer.headers.location).toBe('/settings');
});

test('an unused session ends after exactly 30 days', async () => {
  const server = await startTestServer();
  const ann = await signUp(server, 'ann@example.com');
  const bob = await signUp(server, 'bob@example.com');
  server.clock.now = new Date(daysAfter(30).getTime() - 1000);
  expect(await whoIs(server, ann.cookie)).toBe('ann@example.com');
  server.clock.now = daysAfter(30);
  expect(await whoIs(server, bob.cookie)).toBeNull();
});

test('a session in use is prolonged: 30 days from its last use, and so is its cookie', async () => {
  const server = await startTestServer();
  const ann = await signUp(server, 'ann@example.com');
  server.clock.now = daysAfter(29);
  const used = await server.app.inject({ url: '/settings', headers: { cookie: ann.cookie } });
  expect(sessionCookie(used)).toMatchObject({ value: tokenOf(ann.cookie), maxAge: MONTH, httpOnly: true });
  server.clock.now = new Date(daysAfter(59).getTime() - 1000);
  expect(await whoIs(server, ann.cookie)).toBe('ann@example.com');
  server.clock.now = daysAfter(89);
  expect(await whoIs(server, ann.cookie)).toBeNull();
});

test('an answer to the cookie of a session that has ended leaves the cookie alone, which may be a new one by now', async () => {
  const server = await startTestServer();
  const ann = await signUp(server, 'ann@example.com');
  server.clock.now = daysAfter(31);
  const answer = await server.app.inject({ url: '/', headers: { cookie: ann.cookie } });
  expect(answer.statusCode).toBe(200);
  expect(sessionCookie(answer)).toBeUndefined();
});

test.each([
  'tandem_session=',
  'tandem_session=%zz',
  'tandem_session=%00',
  `tandem_session=${'x'.repeat(4000)}`,
  'tandem_session=a; tandem_session=b',
  'tandem_flash=__proto__; tandem_ref=%F0%9F%92%A9',
])('a browser with the forged cookie %.40s is treated as logged out', async (cookie) => {
  const server = await startTestServer();
  await signUp(server, 'ann@example.com');
  expect(await whoIs(server, cookie)).toBeNull();
  expect((await server.app.inject({ url: '/pricing', headers: { cookie } })).statusCode).toBe(200);
});

test('Settings changes the address with the current password', async () => {
  const server = await startTestServer();
  const ann = await signUp(server, 'ann@example.com');
  const fields = { email: ' Anna@Example.com', currentPassword: PASSWORD };
  const answer = await postForm(server.app, '/settings/address', fields, ann.cookie);
  expect(answer.statusCode).toBe(303);
  expect(answer.headers.location).toBe('/settings');
  const cookie = `${ann.cookie}; ${cookiesOf(answer)}`;
  const settings = await server.app.inject({ url: '/settings', headers: { cookie } });
  expect(settings.body).toContain('Your email address has been changed.');
  expect(await whoIs(server, ann.cookie)).toBe('anna@example.com');
  expect((await logIn(server, 'anna@example.com')).statusCode).toBe(303);
  expect((await logIn(server, 'ann@example.com')).statusCode).toBe(401);
});

test('typing the current address in Settings changes nothing, and Settings says so', async () => {
  const server = await startTestServer();
  const ann = await signUp(server, 'ann@example.com');
  const fields = { email: 'Ann@example.com', currentPassword: PASSWORD };
  const answer = await postForm(server.app, '/settings/address', fields, ann.cookie);
  const cookie = `${ann.cookie}; ${cookiesOf(answer)}`;
  const { body } = await server.app.inject({ url: '/settings', headers: { cookie } });
  expect(body).toContain('Your address has not changed.');
  expect(body).not.toContain('has been changed');
});

test('changing the address ends all other sessions and every reset link', async () => {
  const server = await startTestServer();
  const ann = await signUp(server, 'ann@example.com');
  const elsewhere = cookiesOf(await logIn(server, 'ann@example.com'));
  const link = await operatorResetPath(server);
  const fields = { email: 'anna@example.com', currentPassword: PASSWORD };
  expect((await postForm(server.app, '/settings/address', fields, ann.cookie)).statusCode).toBe(303);
  expect(await whoIs(server, ann.cookie)).toBe('anna@example.com');
  expect(await whoIs(server, elsewhere)).toBeNull();
  expect((await postForm(server.app, link, { password: NEW_PASSWORD })).statusCode).toBe(404);
  expect((await logIn(server, 'anna@example.com')).statusCode).toBe(303);
});

const wrongPassword = 'This is not your current password.';

test.each([
  [
    'with a wrong password',
    { email: 'new@example.com', currentPassword: 'wrong password' },
    403,
    wrongPassword,
  ],
  ['without a password', { email: 'new@example.com' }, 400, 'address-password-error'],
  ['to an empty one', { email: '', currentPassword: PASSWORD }, 400, bad],
  ['to one without an @', { email: 'new', currentPassword: PASSWORD }, 400, bad],
  [
    'to one that another account has',
    { email: 'BOB@example.com', currentPassword: PASSWORD },
    409,
    'already has an account',
  ],
])(
  'changing the address %s shows the form again and changes nothing',
  async (_name, fields, status, message) => {
    const server = await startTestServer();
    const ann = await signUp(server, 'ann@example.com');
    await signUp(server, 'bob@example.com');
    const answer = await postForm(server.app, '/settings/address', fields, ann.cookie);
    expect(answer.statusCode).toBe(status);
    expect(answer.body).toContain(message);
    expect(answer.body).toContain(`value="${fields.email}"`);
    expect(answer.body).not.toContain('wrong password"');
    expect(await whoIs(server, ann.cookie)).toBe('ann@example.com');
  },
);

test('changing the password in Settings keeps this browser logged in, with a new session, and ends all others', async () => {
  const server = await startTestServer();
  const ann = await signUp(server, 'ann@example.com');
  const elsewhere = cookiesOf(await logIn(server, 'ann@example.com'));
  const fields = { currentPassword: PASSWORD, newPassword: NEW_PASSWORD };
  const answer = await postForm(server.app, '/settings/password', fields, ann.cookie);
  expect(answer.statusCode).toBe(303);
  const settings = await server.app.inject({ url: '/settings', headers: { cookie: cookiesOf(answer) } });
  expect(settings.statusCode).toBe(200);
  expect(settings.body).toContain('Your password has been changed');
  expect(await whoIs(server, elsewhere)).toBeNull();
  expect(await whoIs(server, ann.cookie)).toBeNull();
  expect((await logIn(server, 'ann@example.com', PASSWORD)).statusCode).toBe(401);
  expect((await logIn(server, 'ann@example.com', NEW_PASSWORD)).statusCode).toBe(303);
});

test.each([
  [
    'with a wrong current one',
    { currentPassword: 'wrong password', newPassword: NEW_PASSWORD },
    403,
    wrongPassword,
  ],
  ['without the current one', { newPassword: NEW_PASSWORD }, 400, 'password-current-error'],
  ['to one of 7 characters', { currentPassword: PASSWORD, newPassword: '1234567' }, 400, weak],
  ['to one of 201 characters', { currentPassword: PASSWORD, newPassword: 'p'.repeat(201) }, 400, weak],
])(
  'changing the password %s shows the form again and changes nothing',
  async (_name, fields, status, message) => {
    const server = await startTestServer();
    const ann = await signUp(server, 'ann@example.com');
    const answer = await postForm(server.app, '/settings/password', fields, ann.cookie);
    expect(answer.statusCode).toBe(status);
    expect(answer.body).toContain(message);
    expect(answer.body).not.toContain(fields.newPassword);
    expect(await whoIs(server, ann.cookie)).toBe('ann@example.com');
    expect((await logIn(server, 'ann@example.com', PASSWORD)).statusCode).toBe(303);
  },
);

test.each(['/settings/address', '/settings/password'])(
  '%s redirects a visitor to the login page',
  async (url) => {
    const { app } = await startTestServer();
    const answer = await postForm(app, url, {
      currentPassword: PASSWORD,
      newPassword: NEW_PASSWORD,
      email: 'a@b.test',
    });
    expect(answer.statusCode).toBe(303);
    expect(answer.headers.location).toBe('/login');
  },
);

test('changing the address from a session that has ended meanwhile ends every other session', async () => {
  const server = await startTestServer();
  const ann = await signUp(server, 'ann@example.com');
  const kept = { secret: SESSION_SECRET, token: 'of a session that has ended' };
  const typed = { email: 'new@example.com', currentPassword: PASSWORD };
  expect(await changeAddress(server.db, kept, ann.id, typed, server.clock.now)).toBeNull();
  expect(await server.db.session.count()).toBe(0);
});
