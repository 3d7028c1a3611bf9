import type { LightMyRequestResponse } from 'fastify';
import { expect, test } from 'vitest';

import { keepBackup } from '../src/backups/backups.ts';
import { inTransaction } from '../src/db/transaction.ts';
import { daysAfter, deleteAccount, deliverAll, postForm, signUp, startTestServer } from './support/server.ts';
import type { Person, TestServer } from './support/server.ts';
import { buyer } from './support/stripe-events.ts';

const HOLDING = { symbol: 'ACME', quantity: 1.5, price: 12.34, note: 'first' };
const PORTFOLIO = { format: 'tandem-portfolio', version: 1, currency: 'EUR', holdings: [HOLDING] };

function call(
  { app }: TestServer,
  method: 'GET' | 'POST' | 'DELETE',
  url: string,
  { cookie }: { cookie: string },
  payload?: string | object,
): Promise<LightMyRequestResponse> {
  const headers = { cookie, 'sec-fetch-site': 'same-origin' };
  if (payload === undefined) return app.inject({ method, url, headers });
  return app.inject({ method, url, headers: { ...headers, 'content-type': 'application/json' }, payload });
}

async function payingUser(server: TestServer): Promise<Person & { ends: (days: number) => Promise<void> }> {
  const person = await signUp(server, 'ann@example.com');
  const stripe = buyer(person.id);
  await deliverAll(server, [stripe.checkoutCompleted(), stripe.created()]);
  return {
    ...person,
    ends: async (days) => {
      server.clock.now = daysAfter(days);
      await deliverAll(server, [stripe.ended(server.clock.now)]);
    },
  };
}

async function idsOf(server: TestServer, person: Person): Promise<string[]> {
  const answer = await call(server, 'GET', '/api/backups', person);
  return answer.json<{ backups: { id: string }[] }>().backups.map(({ id }) => id);
}

async function backUp(server: TestServer, person: Person, document: object = PORTFOLIO): Promise<string> {
  const answer = await call(server, 'POST', '/api/backups', person, document);
  expect(answer.statusCode).toBe(201);
  return answer.json<{ id: string }>().id;
}

test('a backup is stored, listed, restored and deleted', async () => {
  const server = await startTestServer();
  const ann = await payingUser(server);
  const made = await call(server, 'POST', '/api/backups', ann, PORTFOLIO);
  expect(made.statusCode).toBe(201);
  const backup = made.json<{ id: string }>();
  expect(backup).toEqual({
    id: expect.any(String) as string,
    createdAt: '2027-01-10T09:00:00.000Z',
    bytes: JSON.stringify(PORTFOLIO).length,
  });
  expect((await call(server, 'GET', '/api/backups', ann)).json()).toEqual({ backups: [backup] });

  const restored = await call(server, 'POST', `/api/backups/${backup.id}/restore`, ann);
  expect(restored.json()).toEqual(PORTFOLIO);
  expect(restored.headers['content-disposition']).toBe('attachment; filename="portfolio-2027-01-10.json"');

  const deleted = await call(server, 'DELETE', `/api/backups/${backup.id}`, ann);
  expect([deleted.statusCode, deleted.body]).toEqual([204, '']);
  expect(await idsOf(server, ann)).toEqual([]);
  const again = await call(server, 'DELETE', `/api/backups/${backup.id}`, ann);
  expect(again.statusCode).toBe(404);
});

test('a document with a current price is kept and comes back as it was', async () => {
  const server = await startTestServer();
  const ann = await payingUser(server);
  const document = { ...PORTFOLIO, holdings: [HOLDING, { ...HOLDING, symbol: 'NEW', currentPrice: 13.5 }] };
  const id = await backUp(server, ann, document);
  expect((await call(server, 'POST', `/api/backups/${id}/restore`, ann)).json()).toEqual(document);
});

test('bytes is the size of the document in bytes, not in characters', async () => {
  const server = await startTestServer();
  const ann = await payingUser(server);
  await backUp(server, ann, { ...PORTFOLIO, holdings: [{ ...HOLDING, note: 'für später' }] });
  const plain = JSON.stringify(PORTFOLIO).length - 'first'.length;
  const answer = await call(server, 'GET', '/api/backups', ann);
  expect(answer.json()).toMatchObject({ backups: [{ bytes: plain + 12 }] });
});

test('without access a new backup is refused and nothing is stored', async () => {
  const server = await startTestServer();
  const ann = await signUp(server, 'ann@example.com');
  const answer = await call(server, 'POST', '/api/backups', ann, PORTFOLIO);
  expect(answer.statusCode).toBe(402);
  expect(answer.json()).toMatchObject({ error: { code: 'access_needed' } });
  expect(await server.db.backup.count()).toBe(0);
});

test('after access ends, backups can still be listed, restored and deleted, but not made', async () => {
  const server = await startTestServer();
  const ann = await payingUser(server);
  const id = await backUp(server, ann);
  await ann.ends(10);
  expect((await call(server, 'POST', '/api/backups', ann, PORTFOLIO)).statusCode).toBe(402);
  expect(await idsOf(server, ann)).toEqual([id]);
  expect((await call(server, 'POST', `/api/backups/${id}/restore`, ann)).json()).toEqual(PORTFOLIO);
  expect((await call(server, 'DELETE', `/api/backups/${id}`, ann)).statusCode).toBe(204);
});

test('credit gives access: a referrer can back up until it is used up', async () => {
  const server = await startTestServer();
  const ann = await signUp(server, 'ann@example.com');
  const bob = await signUp(server, 'bob@example.com', ann.code);
  const stripe = buyer(bob.id);
  await deliverAll(server, [stripe.checkoutCompleted(), stripe.created()]);
  // A session lasts 30 days from its last use.
  server.clock.now = daysAfter(20);
  await idsOf(server, ann);
  server.clock.now = new Date(daysAfter(45).getTime() - 1000);
  await backUp(server, ann);
  server.clock.now = daysAfter(45);
  expect((await call(server, 'POST', '/api/backups', ann, PORTFOLIO)).statusCode).toBe(402);
});

test('twenty backups are kept: the next one deletes the oldest, even when several were made in one second', async () => {
  const server = await startTestServer();
  const ann = await payingUser(server);
  const ids: string[] = [];
  for (let n = 0; n < 20; n += 1) ids.unshift(await backUp(server, ann));
  expect(await idsOf(server, ann)).toEqual(ids);
  ids.unshift(await backUp(server, ann));
  expect(await idsOf(server, ann)).toEqual(ids.slice(0, 20));
});

// Each server makes one backup of an account at a time, but there can be several servers.
test('backups stored at the same time are all stored, up to twenty', async () => {
  const server = await startTestServer();
  const ann = await payingUser(server);
  const user = await server.db.user.findUniqueOrThrow({ where: { id: ann.id } });
  const store = () => inTransaction(server.db, server.clock.now, (tx) => keepBackup(tx, user, '{}'));
  const kept = await Promise.all(Array.from({ length: 25 }, store));
  expect(kept).toEqual(Array(25).fill(expect.objectContaining({ bytes: 2 })));
  expect(await idsOf(server, ann)).toHaveLength(20);
});

test('nobody can reach the backups of somebody else', async () => {
  const server = await startTestServer();
  const ann = await payingUser(server);
  const eve = await signUp(server, 'eve@example.com');
  const id = await backUp(server, ann);
  expect(await idsOf(server, eve)).toEqual([]);
  expect((await call(server, 'POST', `/api/backups/${id}/restore`, eve)).statusCode).toBe(404);
  expect((await call(server, 'DELETE', `/api/backups/${id}`, eve)).statusCode).toBe(404);
  expect((await postForm(server.app, `/portfolio/backups/${id}/delete`, {}, eve.cookie)).statusCode).toBe(
    404,
  );
  expect(await idsOf(server, ann)).toEqual([id]);
});

test('somebody who is not logged in gets 401', async () => {
  const server = await startTestServer();
  for (const [method, url] of [
    ['GET', '/api/backups'],
    ['POST', '/api/backups'],
    ['POST', '/api/backups/1/restore'],
    ['DELETE', '/api/backups/1'],
  ] as const) {
    const answer = await call(server, method, url, { cookie: '' });
    expect([url, answer.statusCode]).toEqual([url, 401]);
  }
});

test.each([
  ['another format', { ...PORTFOLIO, format: 'spreadsheet' }, 'format'],
  ['a newer version', { ...PORTFOLIO, version: 2 }, 'version'],
  ['a currency that is not a code', { ...PORTFOLIO, currency: 'euros' }, 'currency'],
  ['a quantity of zero', { ...PORTFOLIO, holdings: [{ ...HOLDING, quantity: 0 }] }, 'holdings.0.quantity'],
  [
    'a price that is not a number',
    { ...PORTFOLIO, holdings: [{ ...HOLDING, price: '12' }] },
    'holdings.0.price',
  ],
  [
    'a current price below zero',
    { ...PORTFOLIO, holdings: [{ ...HOLDING, currentPrice: -1 }] },
    'holdings.0.currentPrice',
  ],
  [
    'hundreds of wrong holdings',
    {
      ...PORTFOLIO,
      holdings: [HOLDING, ...Array.from({ length: 500 }, () => ({ symbol: '', quantity: -1 }))],
    },
    'holdings.1.symbol',
  ],
  ['an unknown field', { ...PORTFOLIO, owner: 'Ann' }, 'owner'],
  ['a list instead of an object', [], 'the document'],
])('a document with %s is refused, with the reason', async (_what, document, place) => {
  const server = await startTestServer();
  const ann = await payingUser(server);
  const answer = await call(server, 'POST', '/api/backups', ann, document);
  expect(answer.statusCode).toBe(400);
  const { error } = answer.json<{ error: { code: string; message: string } }>();
  expect(error.code).toBe('bad_document');
  expect(error.message).toContain(place);
  expect(await server.db.backup.count()).toBe(0);
});

test('a body that is not JSON is refused', async () => {
  const server = await startTestServer();
  const ann = await payingUser(server);
  expect((await call(server, 'POST', '/api/backups', ann, '{"format":')).statusCode).toBe(400);
});

test('a document over 256 KB is refused, and the message names the limit', async () => {
  const server = await startTestServer();
  const ann = await payingUser(server);
  const full = (holdings: number): string =>
    JSON.stringify({ ...PORTFOLIO, holdings: Array(holdings).fill({ ...HOLDING, note: 'x'.repeat(450) }) });
  await backUp(server, ann, JSON.parse(full(500)) as object);
  const answer = await call(server, 'POST', '/api/backups', ann, full(520));
  expect(full(520).length).toBeGreaterThan(256 * 1024);
  expect(answer.statusCode).toBe(413);
  expect(answer.json()).toMatchObject({ error: { message: expect.stringContaining('256 KB') as string } });
});

test('deleting an account deletes its backups', async () => {
  const server = await startTestServer();
  const ann = await signUp(server, 'ann@example.com');
  await server.db.backup.create({
    data: { id: 'b1', userId: ann.id, number: 1, document: '{}', createdAt: server.clock.now },
  });
  await deleteAccount(server, ann);
  expect(await server.db.user.findUnique({ where: { id: ann.id } })).toMatchObject({ email: null });
  expect(await server.db.backup.count()).toBe(0);
});

test('the page lists the backups, and a form deletes one without JavaScript', async () => {
  const server = await startTestServer();
  const ann = await payingUser(server);
  const id = await backUp(server, ann);
  const page = await server.app.inject({ url: '/portfolio', headers: { cookie: ann.cookie } });
  expect(page.statusCode).toBe(200);
  expect(page.body).toContain(`/api/backups/${id}/restore`);

  const answer = await postForm(server.app, `/portfolio/backups/${id}/delete`, {}, ann.cookie);
  expect([answer.statusCode, answer.headers.location]).toEqual([303, '/portfolio']);
  expect(await idsOf(server, ann)).toEqual([]);
});
