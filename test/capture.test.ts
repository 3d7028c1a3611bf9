import type { LightMyRequestResponse } from 'fastify';
import { expect, test } from 'vitest';

import { refuseWrites } from './support/other-connection.ts';
import {
  cookiesOf,
  DAY,
  makeTombstone,
  PASSWORD,
  postForm,
  signUp,
  startTestServer,
} from './support/server.ts';
import type { Person, TestServer } from './support/server.ts';

const BANNER = 'A friend invited you.';
const PROMISE = /with your first payment you and your friend each get 45 days of paid access/;
const OWN_LINK = 'This is your own link.';
const AT_SIGN_UP_ONLY = 'Invitations only count when you sign up.';

function visit({ app }: TestServer, url: string, cookie = ''): Promise<LightMyRequestResponse> {
  return app.inject({ url, headers: { cookie } });
}

function invitationCookie(answer: LightMyRequestResponse) {
  return answer.cookies.find((cookie) => cookie.name === 'tandem_ref');
}

/** Signs up in a browser with these cookies. */
function signUpWith({ app }: TestServer, email: string, cookie: string): Promise<LightMyRequestResponse> {
  return postForm(app, '/signup', { email, password: PASSWORD }, cookie);
}

/** Follows a link and signs up in the same browser; the sign-up must succeed. */
async function follow(server: TestServer, url: string, email: string): Promise<void> {
  const answer = await signUpWith(server, email, cookiesOf(await visit(server, url)));
  expect(answer.statusCode).toBe(303);
}

/** Who referred whom, as [referrer's address, referred user's address]. */
async function referrals({ db }: TestServer): Promise<(string | null | undefined)[][]> {
  const rows = await db.referral.findMany({
    include: { referrer: true, referred: true },
    orderBy: { referred: { email: 'asc' } },
  });
  return rows.map((row) => [row.referrer?.email, row.referred.email]);
}

async function withAnn(): Promise<{ server: TestServer; ann: Person }> {
  const server = await startTestServer();
  return { server, ann: await signUp(server, 'ann@example.com') };
}

test("a friend's link redirects to Pricing and is remembered for 30 days", async () => {
  const { server, ann } = await withAnn();
  const answer = await visit(server, `/r/${ann.code}`);
  expect(answer.statusCode).toBe(303);
  expect(answer.headers.location).toBe('/pricing');
  expect(invitationCookie(answer)).toMatchObject({
    path: '/',
    httpOnly: true,
    sameSite: 'Lax',
    maxAge: 30 * DAY,
  });
});

test.each(['/pricing', '/signup', '/'])(
  "after following a friend's link, %s says who gets what",
  async (url) => {
    const { server, ann } = await withAnn();
    const page = await visit(server, url, cookiesOf(await visit(server, `/r/${ann.code}`)));
    expect(page.body).toContain(BANNER);
    expect(page.body).toMatch(PROMISE);
    expect(page.body).toContain(ann.code);
  },
);

test.each(['/pricing', '/signup', '/'])('%s without an invitation has no banner', async (url) => {
  const { server } = await withAnn();
  expect((await visit(server, url)).body).not.toContain(BANNER);
});

test.each(['/pricing', '/signup', '/'])(
  '?ref= on %s is remembered and shows the banner at once',
  async (url) => {
    const { server, ann } = await withAnn();
    const answer = await visit(server, `${url}?ref=${ann.code}`);
    expect(answer.statusCode).toBe(200);
    expect(answer.body).toContain(BANNER);
    expect(invitationCookie(answer)?.maxAge).toBe(30 * DAY);
  },
);

test.each(['/login', '/settings', '/no-such-page'])(
  '?ref= on %s is remembered without a banner',
  async (url) => {
    const { server, ann } = await withAnn();
    await follow(server, `${url}?ref=${ann.code}`, 'bob@example.com');
    expect(await referrals(server)).toEqual([['ann@example.com', 'bob@example.com']]);
  },
);

test('signing up after following a link makes an unconverted referral and clears the invitation cookie', async () => {
  const { server, ann } = await withAnn();
  const answer = await signUpWith(
    server,
    'bob@example.com',
    cookiesOf(await visit(server, `/r/${ann.code}`)),
  );
  const bob = await server.db.user.findUniqueOrThrow({ where: { email: 'bob@example.com' } });
  expect(await server.db.referral.findMany()).toMatchObject([
    { referrerId: ann.id, referredId: bob.id, convertedAt: null, creditedAt: null, reversedAt: null },
  ]);
  expect(invitationCookie(answer)).toMatchObject({ value: '', maxAge: 0 });
});

test('signing up without an invitation makes no referral', async () => {
  const { server } = await withAnn();
  await signUp(server, 'bob@example.com');
  expect(await referrals(server)).toEqual([]);
});

test.each([
  ['in lower case', (code: string) => code.toLowerCase()],
  ['in mixed case', (code: string) => code.slice(0, 4) + code.slice(4).toLowerCase()],
  ['with spaces around it', (code: string) => ` ${code}\u00A0\t`],
  ['with a slash at the end', (code: string) => `${code}/`],
  ['with a full stop at the end', (code: string) => `${code}.`],
  ['with a comma at the end', (code: string) => `${code},`],
  ['with an exclamation mark at the end', (code: string) => `${code}!`],
  ['with a bracket at the end', (code: string) => `${code})`],
  ['in brackets', (code: string) => `(${code}).`],
  ['in angle brackets', (code: string) => `<${code}>`],
  ['as a Markdown link', (code: string) => `${code}](https://tandem.test)`],
  ['in straight quotes', (code: string) => `"${code}"`],
  ['in single quotes', (code: string) => `'${code}'`],
  ['in curly quotes', (code: string) => `“${code}”`],
  ['in French quotes', (code: string) => `«\u202F${code}\u202F»`],
  ['with spaces inside', (code: string) => `${code.slice(0, 4)} ${code.slice(4)}`],
  ['with hyphens inside', (code: string) => code.replace(/..(?!$)/g, '$&-')],
  ['with dashes inside', (code: string) => `${code.slice(0, 4)}–${code.slice(4)}`],
  ['with a soft hyphen inside', (code: string) => `${code.slice(0, 4)}\u00AD${code.slice(4)}`],
  ['with zero-width characters', (code: string) => `\u200B${code.slice(0, 4)}\u2060${code.slice(4)}\uFEFF`],
  ['with a text direction mark', (code: string) => `\u202A${code}\u202C`],
  [
    'in full-width letters',
    (code: string) => code.replace(/./g, (c) => String.fromCodePoint((c.codePointAt(0) ?? 0) + 0xfee0)),
  ],
  ['with a line break at the end', (code: string) => `${code}\r\n`],
  ['with an ellipsis at the end', (code: string) => `${code}…`],
  ['with asterisks around it', (code: string) => `**${code}**`],
  ['with words around it', (code: string) => `${code} is my code`],
  ['with a percent-encoded query', (code: string) => `${code}?utm_source=mail&x=1`],
  ['as a whole link', (code: string) => `https://tandem.test/r/${code}`],
])('a code pasted %s counts', async (_name, change) => {
  const { server, ann } = await withAnn();
  const written = (code: string) => encodeURIComponent(change(code));
  await follow(server, `/r/${written(ann.code)}`, 'bob@example.com');
  await follow(server, `/?ref=${written(ann.code)}`, 'cat@example.com');
  expect(await referrals(server)).toEqual([
    ['ann@example.com', 'bob@example.com'],
    ['ann@example.com', 'cat@example.com'],
  ]);
});

test.each([
  ['a slash', (code: string) => `/r/${code}/`],
  ['two slashes', (code: string) => `/r//${code}//`],
  ['a query', (code: string) => `/r/${code}?utm_source=mail`],
  ['a ref that another site added', (code: string) => `/r/${code}?ref=newsletter`],
  ['a trailing slash and a query', (code: string) => `/r/${code}/?utm_source=mail`],
  ['a page path, a trailing slash and a query', (code: string) => `/?ref=${code}/&utm_source=mail`],
  ['a second ref', (code: string) => `/pricing?ref=${code}&ref=x`],
  ['a different ref before it', (code: string) => `/pricing?ref=x&ref=${code}`],
  ['an empty ref before it', (code: string) => `/pricing?ref=&ref=${code}`],
  ['the whole link as the ref', (code: string) => `/pricing?ref=http://tandem.test/r/${code}/`],
])('a link with %s counts', async (_name, link) => {
  const { server, ann } = await withAnn();
  const cookies = cookiesOf(await visit(server, link(ann.code)));
  await signUpWith(server, 'bob@example.com', cookies);
  expect(await referrals(server)).toEqual([['ann@example.com', 'bob@example.com']]);
});

test('when a link holds two known codes, the first one counts', async () => {
  const { server, ann } = await withAnn();
  const bob = await signUp(server, 'bob@example.com');
  for (const [n, [one, two]] of [
    [ann, bob],
    [bob, ann],
  ].entries()) {
    await follow(server, `/pricing?ref=${one?.code ?? ''}&ref=${two?.code ?? ''}`, `friend${n}@example.com`);
  }
  expect(await referrals(server)).toEqual([
    ['ann@example.com', 'friend0@example.com'],
    ['bob@example.com', 'friend1@example.com'],
  ]);
});

test.each([
  ['/r/', '?ref='],
  ['?ref=', '/r/'],
])('of two invitations, %s before %s, the first one wins', async (first, second) => {
  const { server, ann } = await withAnn();
  const bob = await signUp(server, 'bob@example.com');
  const link = (kind: string, code: string) => (kind === '/r/' ? `/r/${code}` : `/pricing?ref=${code}`);
  const cookie = cookiesOf(await visit(server, link(first, ann.code)));
  const answer = await visit(server, link(second, bob.code), cookie);
  expect(invitationCookie(answer)).toBeUndefined();
  expect((await visit(server, '/signup', cookie)).body).toContain(ann.code);
  await signUpWith(server, 'cat@example.com', cookie);
  expect(await referrals(server)).toEqual([['ann@example.com', 'cat@example.com']]);
});

test("an invitation whose referrer's account is gone is replaced by the next friend's", async () => {
  const { server, ann } = await withAnn();
  const bob = await signUp(server, 'bob@example.com');
  const cookie = cookiesOf(await visit(server, `/r/${ann.code}`));
  await makeTombstone(server, ann);
  expect((await visit(server, '/signup', cookie)).body).not.toContain(BANNER);
  expect(invitationCookie(await visit(server, `/r/${bob.code}`, cookie))?.value).toBe(bob.code);
});

test('an invitation whose account is deleted before the sign-up is silently dropped', async () => {
  const { server, ann } = await withAnn();
  const cookie = cookiesOf(await visit(server, `/r/${ann.code}`));
  await makeTombstone(server, ann);
  expect((await signUpWith(server, 'bob@example.com', cookie)).statusCode).toBe(303);
  expect(await server.db.referral.count()).toBe(0);
});

const UNKNOWN = [
  ['of nobody', '22222222'],
  ['with letters that no code has', 'OIL01OIL'],
  ['that is too short', 'ABC'],
  ['of 101 characters', 'A'.repeat(101)],
  ['of 3000 characters', 'A'.repeat(3000)],
  ['that is a NUL', '%00'],
  ['of letters that grow in capitals', '%C3%9F'.repeat(4)],
  ['that tries SQL', "'%20OR%201=1--"],
  ['that tries HTML', '%3Cscript%3E'],
  ['that is nothing', ''],
];

test.each(UNKNOWN)('a link with a code %s silently makes no referral', async (_name, code) => {
  const { server } = await withAnn();
  const answer = await visit(server, `/r/${code}`);
  expect(answer.statusCode).toBe(303);
  expect(answer.headers.location).toBe('/pricing');
  expect(answer.cookies).toEqual([]);
});

test.each([...UNKNOWN, ['given twice', 'A&ref=B'], ['that is not UTF-8', '%E0%A4%A']])(
  '?ref= with a code %s makes no referral, without an error',
  async (_name, code) => {
    const { server } = await withAnn();
    const answer = await visit(server, `/pricing?ref=${code}`);
    expect(answer.statusCode).toBe(200);
    expect(answer.body).not.toContain(BANNER);
    expect(answer.body).not.toContain('role="alert"');
    expect(answer.cookies).toEqual([]);
  },
);

test.each(['22222222', '%00', '%zz', '%F0%9F%92%A9', 'A'.repeat(3000)])(
  'the made-up cookie %.20s makes no referral, and signing up works',
  async (value) => {
    const { server } = await withAnn();
    const answer = await signUpWith(server, 'bob@example.com', `tandem_ref=${value}`);
    expect(answer.statusCode).toBe(303);
    expect(await server.db.referral.count()).toBe(0);
  },
);

test.each([(code: string) => `/r/${code}`, (code: string) => `/r/${code.toLowerCase()}`])(
  'users who follow their own link are told on the next page that it is their own',
  async (link) => {
    const { server, ann } = await withAnn();
    const answer = await visit(server, link(ann.code), ann.cookie);
    expect(answer.headers.location).toBe('/pricing');
    expect(invitationCookie(answer)).toBeUndefined();
    const cookie = `${ann.cookie}; ${cookiesOf(answer)}`;
    const page = await visit(server, '/pricing', cookie);
    expect(page.body).toContain(OWN_LINK);
    expect(page.body).not.toContain(BANNER);
    // The notice is shown once.
    expect(page.cookies.find(({ name }) => name === 'tandem_flash')).toMatchObject({ value: '', maxAge: 0 });
  },
);

test("somebody with an account who follows a friend's link reads that codes count only at sign-up", async () => {
  const { server, ann } = await withAnn();
  const bob = await signUp(server, 'bob@example.com');
  const answer = await visit(server, `/r/${ann.code}`, bob.cookie);
  expect(invitationCookie(answer)).toBeUndefined();
  const page = await visit(server, '/pricing', `${bob.cookie}; ${cookiesOf(answer)}`);
  expect(page.body).toContain(AT_SIGN_UP_ONLY);
  expect(page.body).not.toContain(BANNER);
  expect(await server.db.referral.count()).toBe(0);
});

test('a form of another site, sent without cookies, does not replace the remembered code', async () => {
  const server = await startTestServer();
  const ann = await signUp(server, 'ann@example.com');
  const answer = await server.app.inject({
    method: 'POST',
    url: `/unsubscribe/x?ref=${ann.code}`,
    headers: { origin: 'https://evil.example', 'sec-fetch-site': 'cross-site' },
  });
  expect(cookiesOf(answer)).toBe('');
});

test('somebody who opens a page with their own code in ?ref= reads there that it is theirs', async () => {
  const { server, ann } = await withAnn();
  expect((await visit(server, `/pricing?ref=${ann.code}`, ann.cookie)).body).toContain(OWN_LINK);
});

test("somebody with an account who opens a page with a friend's code reads there that it counts at sign-up", async () => {
  const { server, ann } = await withAnn();
  const bob = await signUp(server, 'bob@example.com');
  expect((await visit(server, `/pricing?ref=${ann.code}`, bob.cookie)).body).toContain(AT_SIGN_UP_ONLY);
});

test('an unknown code shows nothing to somebody with an account', async () => {
  const { server, ann } = await withAnn();
  expect((await visit(server, '/r/22222222', ann.cookie)).cookies).toEqual([]);
  expect((await visit(server, '/pricing?ref=22222222', ann.cookie)).cookies).toEqual([]);
});

test('an invitation is not shown to somebody with an account, and logging in with it makes no referral', async () => {
  const { server, ann } = await withAnn();
  const bob = await signUp(server, 'bob@example.com');
  const invited = cookiesOf(await visit(server, `/r/${ann.code}`));
  expect((await visit(server, '/pricing', `${bob.cookie}; ${invited}`)).body).not.toContain(BANNER);
  const answer = await postForm(
    server.app,
    '/login',
    { email: 'bob@example.com', password: PASSWORD },
    invited,
  );
  expect(answer.statusCode).toBe(303);
  expect(await server.db.referral.count()).toBe(0);
});

test.each([
  ['ann@example.com', 'ann+2@example.com'],
  ['ann@example.com', 'ANN+Two@Example.COM'],
  ['ann@example.com', 'ann+a+b@example.com'],
  ['ann+work@example.com', 'ann@example.com'],
  ['ann+work@example.com', 'ann+home@example.com'],
  ['ann.lee@gmail.com', 'a.n.n.l.e.e+2@googlemail.com'],
  ['annlee@googlemail.com', 'ann.lee@gmail.com'],
])('%s cannot refer themselves as %s: the account is made, without a referral', async (email, alias) => {
  const server = await startTestServer();
  const ann = await signUp(server, email);
  await follow(server, `/r/${ann.code}`, alias);
  expect(await server.db.user.count()).toBe(2);
  expect(await server.db.referral.count()).toBe(0);
});

test.each(['ann@example.org', 'ann2@example.com', 'x+ann@example.com', 'a.nn@example.com'])(
  'ann@example.com can refer %s, a different person',
  async (email) => {
    const { server, ann } = await withAnn();
    await follow(server, `/r/${ann.code}`, email);
    expect(await referrals(server)).toEqual([['ann@example.com', email]]);
  },
);

test('one person under several +tags gets a referral for each account', async () => {
  const { server, ann } = await withAnn();
  const cat = await signUp(server, 'cat@example.com');
  await follow(server, `/r/${ann.code}`, 'bob+1@example.com');
  await follow(server, `/r/${ann.code}`, 'bob+2@example.com');
  await follow(server, `/r/${cat.code}`, 'bob@example.com');
  expect(await server.db.user.count()).toBe(5);
  expect(await referrals(server)).toEqual([
    ['ann@example.com', 'bob+1@example.com'],
    ['ann@example.com', 'bob+2@example.com'],
    ['cat@example.com', 'bob@example.com'],
  ]);
});

test('the referral is created in the same transaction as the user', async () => {
  const { server, ann } = await withAnn();
  const refusal = await refuseWrites(server, 'INSERT', 'Referral');
  const invited = cookiesOf(await visit(server, `/r/${ann.code}`));
  expect((await signUpWith(server, 'bob@example.com', invited)).statusCode).toBe(500);
  expect(await server.db.user.count()).toBe(1);
  await refusal.lift();
  expect((await signUpWith(server, 'bob@example.com', invited)).statusCode).toBe(303);
  expect(await referrals(server)).toEqual([['ann@example.com', 'bob@example.com']]);
});

test('a failed sign-up keeps the invitation for the next attempt', async () => {
  const { server, ann } = await withAnn();
  const invited = cookiesOf(await visit(server, `/r/${ann.code}`));
  const failed = await signUpWith(server, 'no address', invited);
  expect(failed.statusCode).toBe(400);
  expect(failed.body).toContain(BANNER);
  expect(invitationCookie(failed)).toBeUndefined();
});
