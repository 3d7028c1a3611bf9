import { createHmac } from 'node:crypto';
import { once } from 'node:events';
import { connect } from 'node:net';

import { describe, expect, inject, test } from 'vitest';

import { impatient, keepBusy } from './support/other-connection.ts';
import {
  deliver,
  deliverAll,
  deliverRaw,
  newDatabase,
  sign,
  signUp,
  START,
  startTestServer,
  WEBHOOK_SECRET,
} from './support/server.ts';
import type { TestServer } from './support/server.ts';
import { buyer, stripeEvent } from './support/stripe-events.ts';

async function expectNothingChanged({ db }: TestServer): Promise<void> {
  expect(await db.event.count()).toBe(0);
  expect(await db.customer.count()).toBe(0);
  expect(await db.subscription.count()).toBe(0);
  expect(await db.auditRow.count()).toBe(0);
}

/** With a byte that is not UTF-8. */
const alike = JSON.stringify(stripeEvent('product.created', { id: 'prod_1', name: '\xff' }));

const good = JSON.stringify(buyer('nobody').created());

/** Signed with the right secret, with the time exactly as given. */
function signedAt(time: string): string {
  return `t=${time},v1=${createHmac('sha256', WEBHOOK_SECRET).update(`${time}.${good}`).digest('hex')}`;
}

test.each([
  ['no signature', good, undefined],
  ['an empty signature', good, ''],
  ['a malformed signature', good, 't=1,v1=zz'],
  ['a signature without a time', good, sign(good, START).replace(/t=\d+,/, '')],
  ['a signature by another secret', good, sign(good, START, 'whsec_other')],
  ['a signature of another body', good, sign(`${good} `, START)],
  ['a signature from 301 seconds ago', good, sign(good, new Date(START.getTime() - 301_000))],
  ['a scheme that is not v1', good, sign(good, START).replace('v1=', 'v0=')],
  ['a v1 with nothing after it', good, sign(good, START).replace(/v1=.*/, 'v1=')],
  ['a v1 without =', good, sign(good, START).replace(/v1=.*/, 'v1')],
  ['a signature with a non-ASCII byte', good, `${sign(good, START).slice(0, -1)}\u00e9`],
  ['a signature of half the length', good, sign(good, START).slice(0, -32)],
  ['a signature twice as long', good, sign(good, START).replace(/v1=(.*)/, 'v1=$1$1')],
  ['a time that is not a number', good, signedAt('NaN')],
  ['a time with trailing text', good, signedAt(`${START.getTime() / 1000}x`)],
  ['more signatures than Stripe sends', good, `${sign(good, START)}${`,v1=${'0'.repeat(64)}`.repeat(10)}`],
  ['a signature made of commas only', good, ',,,'],
  ['a signed body that is not JSON', '{"id":', sign('{"id":', START)],
  ['a signed empty body', '', sign('', START)],
  ['a signed null', 'null', sign('null', START)],
  ['a signed list', '[]', sign('[]', START)],
  [
    'an event without an id',
    '{"type":"x","data":{"object":{}}}',
    sign('{"type":"x","data":{"object":{}}}', START),
  ],
  [
    'an event without a type',
    '{"id":"e","data":{"object":{}}}',
    sign('{"id":"e","data":{"object":{}}}', START),
  ],
  [
    'an event without an object',
    '{"id":"e","type":"x","data":{}}',
    sign('{"id":"e","type":"x","data":{}}', START),
  ],
  // Signed as text, in which a byte that is not UTF-8 and its replacement character are the same.
  [
    'different bytes that decode to the same text',
    Buffer.from(alike, 'latin1'),
    sign(alike.replace('\xff', '\ufffd'), START),
  ],
  ['a body with an unsigned byte order mark', `\ufeff${good}`, sign(good, START)],
])('%s is 400 and changes nothing', async (_name, body, signature) => {
  const server = await startTestServer();
  const answer = await deliverRaw(server.app, body, signature);
  expect(answer.statusCode).toBe(400);
  expect(answer.json<{ error: string }>().error).toMatch(/\w/);
  await expectNothingChanged(server);
});

test('a signature from 300 seconds ago is accepted', async () => {
  const server = await startTestServer();
  const answer = await deliverRaw(server.app, good, sign(good, new Date(START.getTime() - 300_000)));
  expect(answer.statusCode).toBe(200);
});

test.each([
  ['an empty one', (header: string) => header.replace('v1=', 'v1=,v1=')],
  ['one without =', (header: string) => header.replace('v1=', 'v1,v1=')],
  ['a wrong one', (header: string) => `${header},v1=${'0'.repeat(64)}`],
  ['one of another scheme', (header: string) => `${header},v0=${'0'.repeat(64)}`],
])('a good signature is accepted beside %s', async (_name, change) => {
  const server = await startTestServer();
  const answer = await deliverRaw(server.app, good, change(sign(good, START)));
  expect(answer.statusCode).toBe(200);
});

test('signed bytes that are not UTF-8 are 400 and change nothing', async () => {
  const server = await startTestServer();
  const body = Buffer.from(alike, 'latin1');
  const time = START.getTime() / 1000;
  const signature = createHmac('sha256', WEBHOOK_SECRET).update(`${time}.`).update(body).digest('hex');
  const answer = await deliverRaw(server.app, body, `t=${time},v1=${signature}`);
  expect(answer.statusCode).toBe(400);
  await expectNothingChanged(server);
});

test('the bytes are verified as received, whatever the content type', async () => {
  const server = await startTestServer();
  const spaced = good.replace('{', '{  ').replaceAll(':', ' : ');
  for (const type of [
    'application/json',
    'application/json; charset=utf-8',
    'text/plain',
    'application/x-www-form-urlencoded',
    'multipart/form-data; boundary=x',
    ';;;',
    'no type at all',
  ]) {
    const answer = await server.app.inject({
      method: 'POST',
      url: '/api/stripe/webhook',
      headers: { 'content-type': type, 'stripe-signature': sign(spaced, START) },
      payload: spaced,
    });
    expect(answer.statusCode).toBe(200);
  }
});

test('a body over 1 MiB is 413 and changes nothing', async () => {
  const server = await startTestServer();
  const body = JSON.stringify({ ...buyer('nobody').created(), padding: 'x'.repeat(1024 * 1024) });
  const answer = await deliverRaw(server.app, body, sign(body, START));
  expect(answer.statusCode).toBe(413);
  expect(answer.json()).toHaveProperty('error');
  await expectNothingChanged(server);
});

test('a client that is still sending a body that is too large sees the 413', async () => {
  const { app } = await startTestServer();
  const origin = await app.listen({ port: 0, host: '127.0.0.1' });
  const socket = connect(Number(new URL(origin).port), '127.0.0.1');
  const size = 4 * 1024 * 1024;
  socket.write(`POST /api/stripe/webhook HTTP/1.1\r\nHost: x\r\nContent-Length: ${size}\r\n\r\n`);
  for (let sent = 0; sent < size; sent += 65_536) {
    await new Promise<void>((resolve, reject) => {
      socket.write(Buffer.alloc(65_536, 'x'), (error) => {
        if (error) reject(error);
        else resolve();
      });
    });
  }
  const [head] = (await once(socket, 'data')) as [Buffer];
  expect(head.toString()).toMatch(/^HTTP\/1\.1 413 /);
  socket.destroy();
});

test('without a secret the webhook answers 503', async () => {
  const server = await startTestServer({ STRIPE_WEBHOOK_SECRET: '', STRIPE_API_KEY: 'sk_test_x' });
  const answer = await deliverRaw(server.app, good, sign(good, START));
  expect(answer.statusCode).toBe(503);
  await expectNothingChanged(server);
});

test('while a secret is rotated, either one is accepted', async () => {
  const server = await startTestServer({ STRIPE_WEBHOOK_SECRET: `${WEBHOOK_SECRET}, whsec_next` });
  for (const [secret, status] of [
    [WEBHOOK_SECRET, 200],
    ['whsec_next', 200],
    ['whsec_gone', 400],
  ] as const) {
    expect((await deliverRaw(server.app, good, sign(good, START, secret))).statusCode).toBe(status);
  }
});

test('the webhook answers in the documented words', async () => {
  const server = await startTestServer();
  const event = buyer().created();
  const first = await deliver(server, event);
  expect([first.statusCode, first.json()]).toEqual([200, { status: 'ok' }]);
  const second = await deliver(server, event);
  expect([second.statusCode, second.json()]).toEqual([200, { status: 'duplicate' }]);
  const unused = await deliver(server, stripeEvent('product.created', { id: 'prod_1' }));
  expect([unused.statusCode, unused.json()]).toEqual([
    200,
    { status: 'ignored', reason: 'events of the type product.created are not used' },
  ]);
});

test('an ignored event is in the ledger with its reason, and is a duplicate when it comes again', async () => {
  const server = await startTestServer();
  const event = stripeEvent('product.created', { id: 'prod_1' });
  await deliver(server, event);
  expect(await server.db.event.findUnique({ where: { id: event.id } })).toMatchObject({
    type: 'product.created',
    status: 'ignored',
    reason: 'events of the type product.created are not used',
    payload: JSON.stringify(event),
  });
  expect((await deliver(server, event)).json()).toEqual({ status: 'duplicate' });
});

test('an event type named like a JavaScript built-in is an unused type', async () => {
  const server = await startTestServer();
  for (const type of ['constructor', '__proto__', 'toString']) {
    const answer = await deliver(server, stripeEvent(type, { id: 'x' }));
    expect(answer.json()).toMatchObject({ status: 'ignored' });
  }
});

test('a subscription without a customer is ignored', async () => {
  const server = await startTestServer();
  const answer = await deliver(server, buyer().created({ customer: null }));
  expect(answer.json()).toEqual({ status: 'ignored', reason: 'the subscription has no customer' });
});

describe('while another process writes to the database (design: rule 10)', () => {
  async function busyServer(databaseUrl: string) {
    const server = await startTestServer({ DATABASE_URL: databaseUrl });
    const friend = await signUp(server, 'friend@example.com');
    return { server, event: buyer(friend.id).checkoutCompleted(), other: await keepBusy(server) };
  }

  test('an event waits for the other process and is applied', async () => {
    const { server, event, other } = await busyServer(await newDatabase());
    const answer = deliver(server, event);
    await other.blocks();
    await other.lift();
    expect((await answer).json()).toEqual({ status: 'ok' });
  });

  // On SQLite a server waits 10 s for the lock.
  test.runIf(inject('thorough') || inject('engine') === 'postgresql')(
    'an event that waits too long is 503; Stripe sends it again, and it is applied',
    async () => {
      const { server, event, other } = await busyServer(impatient(await newDatabase()));
      const answer = await deliver(server, event);
      expect(answer.statusCode).toBe(503);
      expect(answer.headers['retry-after']).toBe('1');
      await other.lift();
      expect((await deliver(server, event)).json()).toEqual({ status: 'ok' });
    },
  );
});

test('a burst from one address is not limited', async () => {
  const server = await startTestServer();
  const burst = Array.from({ length: 200 }, () => buyer().created());
  const answers = await Promise.all(burst.map((event) => deliver(server, event)));
  // On a busy machine PostgreSQL's queue can be too long for some events: Stripe sends them again.
  const refused = burst.filter((_, index) => answers[index]?.statusCode === 503);
  expect(new Set(answers.map(({ statusCode }) => statusCode))).toEqual(
    new Set(refused.length > 0 ? [200, 503] : [200]),
  );
  await deliverAll(server, refused);
});
