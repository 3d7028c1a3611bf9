import { expect, test } from 'vitest';

import { unsubscribeUrl } from '../src/outbox/links.ts';
import { MAIL } from './support/mail.ts';
import {
  deleteAccount,
  PASSWORD,
  postForm,
  SESSION_SECRET,
  signUp,
  startTestServer,
} from './support/server.ts';
import type { Person, TestServer } from './support/server.ts';

function pathFor({ config }: TestServer, person: Pick<Person, 'id' | 'email'>): string {
  return new URL(unsubscribeUrl({ publicUrl: config.publicUrl, secret: SESSION_SECRET }, person)).pathname;
}

const isOff = async ({ db }: TestServer, { id }: Pick<Person, 'id'>): Promise<boolean> =>
  (await db.user.findUniqueOrThrow({ where: { id } })).mailOff;

test('opening the link shows a button, and turns nothing off', async () => {
  const server = await startTestServer(MAIL);
  const ann = await signUp(server, 'ann@example.com');
  const page = await server.app.inject({ url: pathFor(server, ann) });
  expect(page.statusCode).toBe(200);
  expect(page.body).toContain(`method="post" action="${pathFor(server, ann)}"`);
  expect(await isOff(server, ann)).toBe(false);
});

test.each([
  ['a form', 'application/x-www-form-urlencoded', 'List-Unsubscribe=One-Click'],
  [
    'multipart',
    'multipart/form-data; boundary=x',
    '--x\r\nContent-Disposition: form-data; name="List-Unsubscribe"\r\n\r\nOne-Click\r\n--x--\r\n',
  ],
])(
  'a mail provider turns mail off with one request, as %s, from elsewhere and without a cookie',
  async (_how, type, payload) => {
    const server = await startTestServer(MAIL);
    const [ann, bob] = [await signUp(server, 'ann@example.com'), await signUp(server, 'bob@example.com')];
    const answer = await server.app.inject({
      method: 'POST',
      url: pathFor(server, ann),
      headers: { 'content-type': type, origin: 'https://mail.example', 'sec-fetch-site': 'cross-site' },
      payload,
    });
    // RFC 8058 has no redirects.
    expect(answer.statusCode).toBe(200);
    expect(answer.cookies).toEqual([]);
    expect([await isOff(server, ann), await isOff(server, bob)]).toEqual([true, false]);
  },
);

test('a request without a body or a content type works too, and repeating it changes nothing', async () => {
  const server = await startTestServer(MAIL);
  const ann = await signUp(server, 'ann@example.com');
  for (let n = 0; n < 2; n += 1) {
    const answer = await server.app.inject({ method: 'POST', url: pathFor(server, ann) });
    expect(answer.statusCode).toBe(200);
    expect(await isOff(server, ann)).toBe(true);
  }
});

test('a link that is not one of ours does nothing', async () => {
  const server = await startTestServer(MAIL);
  const [ann, bob] = [await signUp(server, 'ann@example.com'), await signUp(server, 'bob@example.com')];
  const signature = pathFor(server, ann).split('.').at(-1) ?? '';
  for (const token of [`${bob.id}.${signature}`, ann.id, `${ann.id}.${'A'.repeat(43)}`, 'x', '%00']) {
    for (const method of ['GET', 'POST'] as const) {
      const answer = await server.app.inject({ method, url: `/unsubscribe/${token}` });
      expect(answer.statusCode, `${method} ${token}`).toBe(404);
    }
  }
  expect(await server.db.user.count({ where: { mailOff: true } })).toBe(0);
});

test('Settings turns mail off and on', async () => {
  const server = await startTestServer(MAIL);
  const ann = await signUp(server, 'ann@example.com');
  const page = async (): Promise<string> =>
    (await server.app.inject({ url: '/settings', headers: { cookie: ann.cookie } })).body;
  expect(await page()).toContain('Turn it off');
  expect((await postForm(server.app, '/settings/mail', { wanted: 'no' }, ann.cookie)).statusCode).toBe(303);
  expect(await isOff(server, ann)).toBe(true);
  expect(await page()).toContain('Turn it on');
  expect((await postForm(server.app, '/settings/mail', { wanted: 'yes' }, ann.cookie)).statusCode).toBe(303);
  expect(await isOff(server, ann)).toBe(false);
  expect((await postForm(server.app, '/settings/mail', { wanted: 'x' }, ann.cookie)).statusCode).toBe(400);
  expect((await postForm(server.app, '/settings/mail', { wanted: 'no' })).headers.location).toBe('/login');
});

test('a link mailed to a former address, or to a deleted account, turns nothing off', async () => {
  const server = await startTestServer();
  const ann = await signUp(server, 'ann@example.com');
  const { statusCode } = await server.app.inject({ url: pathFor(server, ann) });
  expect(statusCode).toBe(200);
  const change = { email: 'new@example.com', currentPassword: PASSWORD };
  expect((await postForm(server.app, '/settings/address', change, ann.cookie)).statusCode).toBe(303);
  expect((await server.app.inject({ method: 'POST', url: pathFor(server, ann) })).statusCode).toBe(404);

  const moved = { ...ann, email: 'new@example.com' };
  await deleteAccount(server, ann);
  expect((await server.app.inject({ method: 'POST', url: pathFor(server, moved) })).statusCode).toBe(404);
  expect(await isOff(server, ann)).toBe(false);
});
