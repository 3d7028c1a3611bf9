import { once } from 'node:events';
import { createServer } from 'node:http';
import type { ServerResponse } from 'node:http';
import { connect } from 'node:net';
import type { AddressInfo, Socket } from 'node:net';

import { describe, expect, onTestFinished, test } from 'vitest';

import { freePort } from './support/free-port.ts';
import { addPeople, expectAppliedOnce, purchaseEvents } from './support/many-buyers.ts';
import { otherConnection } from './support/other-connection.ts';
import { fetchPatiently, runServer, until } from './support/process.ts';
import type { RunningServer } from './support/process.ts';
import { SEED, seededRandom } from './support/seeded-random.ts';
import { newDatabase, PASSWORD, WEBHOOK_SECRET } from './support/server.ts';
import { startDeliveries } from './support/stripe-deliveries.ts';

const ENDS = 5;
const BUYERS = 40;

/** It is stopped after at most this many further acknowledgements. */
const MAX_ACKNOWLEDGED = 20;

test(`a server that is stopped ${ENDS} times under load answers everything it accepted, completely, and accepts no more`, async () => {
  const why = `SEED=${SEED}`;
  const draw = seededRandom('ends');
  const databaseUrl = await newDatabase();
  const people = await addPeople(databaseUrl, BUYERS);
  const purchases = people.map((id, index) => purchaseEvents(seededRandom(`buyer ${index}`), id));
  const port = await freePort();
  const env = { PORT: String(port), DATABASE_URL: databaseUrl, STRIPE_WEBHOOK_SECRET: WEBHOOK_SECRET };
  const { rows } = await otherConnection({ databaseUrl });

  const webhook = `http://127.0.0.1:${port}/api/stripe/webhook`;
  const stripe = startDeliveries(webhook, purchases, seededRandom('deliveries'));
  for (let ends = 0; ends < ENDS; ends += 1) {
    const server = await runServer(env);
    await stripe.reach(stripe.acknowledged.size + 1 + draw(MAX_ACKNOWLEDGED));
    expect(await server.stop(), why).toBe(0);
    expect(server.output.stderr, why).toBe('');
    const taken = await rows('SELECT "id" FROM "Event"');
    expect(taken.map(({ id }) => id).sort(), why).toEqual([...stripe.acknowledged].sort());
  }
  const atTheLastEnd = stripe.acknowledged.size;
  const last = await runServer(env);
  await stripe.done;
  expect(await last.stop()).toBe(0);

  expect(stripe.surprises, why).toEqual([]);
  expect(
    [...stripe.answers.keys()].filter((kind) => !['200', '503', 'none'].includes(kind)),
    why,
  ).toEqual([]);
  expect(stripe.acknowledged.size, why).toBeGreaterThan(atTheLastEnd);
  await expectAppliedOnce(databaseUrl, purchases, why);
}, 300_000);

describe('the shutdown is not held up by', () => {
  test('connections that wait for nothing', async () => {
    const server = await startServer();
    const used = await openConnection(server, 'GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n');
    await until(() => Promise.resolve(used.said().endsWith('{"status":"ok"}') || undefined));
    const fresh = await openConnection(server, '');
    expect(await server.stop()).toBe(0);
    await used.closed;
    await fresh.closed;
    expect(server.output.stderr).toBe('');
  });

  test('clients that send a request slowly, or a checkout that Stripe does not answer', async () => {
    const stripe = await startSilentStripe();
    const server = await startServer(stripe.env);
    const webhook = 'POST /api/stripe/webhook HTTP/1.1\r\nHost: x\r\nContent-Length: 900000\r\n\r\n{';
    const slow = [
      await openConnection(server, 'GET /healthz HTTP/1.1\r\nHost: '),
      await openConnection(server, webhook),
    ];
    const drip = setInterval(() => {
      for (const { socket } of slow) socket.write('x');
    }, 100);
    onTestFinished(() => {
      clearInterval(drip);
    });
    const checkout = startCheckout(server, await signUp(server)).catch(() => 'broken off');
    await stripe.asked;
    expect(await server.stop()).toBe(0);
    expect(await checkout).toBe('broken off');
    for (const { closed, said } of slow) {
      await closed;
      expect(said()).toBe('');
    }
    expect(server.output.stderr).toBe('');
  });
});

test('during the shutdown a request in flight is answered, and new ones are refused', async () => {
  const stripe = await startSilentStripe();
  const server = await startServer(stripe.env);
  const cookie = await signUp(server);
  const halfSent = await openConnection(server, 'GET /healthz HTTP/1.1\r\nHost: x\r\n');
  const checkout = startCheckout(server, cookie);
  const answer = await stripe.asked;
  const end = server.stop();
  await until(async () => ((await isListening(server)) ? undefined : true));
  await halfSent.closed;
  expect(halfSent.said()).toBe('');

  answer.writeHead(400, { 'content-type': 'application/json' });
  answer.end(JSON.stringify({ error: { type: 'invalid_request_error', message: 'no such price' } }));
  const { status, headers } = await checkout;
  expect(status).toBe(502);
  // The answer closes its connection: a kept-alive one would delay the shutdown.
  expect(headers.get('connection')).toBe('close');
  expect(await end).toBe(0);
  expect(server.output.stderr).toBe('');
});

function startServer(env: Record<string, string> = {}): Promise<RunningServer> {
  return newDatabase().then((DATABASE_URL) =>
    runServer({ DATABASE_URL, STRIPE_WEBHOOK_SECRET: WEBHOOK_SECRET, ...env }),
  );
}

interface Connection {
  socket: Socket;
  /** Everything received so far. */
  said: () => string;
  closed: Promise<unknown>;
}

/** Connects and sends the beginning of a request. */
async function openConnection({ url }: RunningServer, beginning: string): Promise<Connection> {
  const { hostname, port } = new URL(url);
  const socket = connect(Number(port), hostname);
  onTestFinished(() => void socket.destroy());
  let said = '';
  socket.on('data', (chunk: Buffer) => (said += chunk.toString()));
  const closed = new Promise((resolve) => socket.once('close', resolve));
  await once(socket, 'connect');
  socket.on('error', () => undefined);
  if (beginning !== '') socket.write(beginning);
  return { socket, said: () => said, closed };
}

async function isListening(server: RunningServer): Promise<boolean> {
  try {
    const { socket } = await openConnection(server, '');
    socket.destroy();
    return true;
  } catch {
    return false;
  }
}

interface SilentStripe {
  /** The settings that make a server use this Stripe. */
  env: Record<string, string>;
  /** The answer to the first request, still to be written. */
  asked: Promise<ServerResponse>;
}

/** A Stripe that answers only when told to. */
async function startSilentStripe(): Promise<SilentStripe> {
  let tell: (answer: ServerResponse) => void = () => undefined;
  const asked = new Promise<ServerResponse>((resolve) => (tell = resolve));
  const server = createServer((_request, answer) => {
    tell(answer);
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  onTestFinished(() => {
    server.closeAllConnections();
    server.close();
  });
  const STRIPE_API_BASE = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  return { env: { STRIPE_API_KEY: 'sk_test_1', STRIPE_PRICE_MONTHLY: 'price_m', STRIPE_API_BASE }, asked };
}

/** Makes an account and returns its Cookie header. */
async function signUp({ url }: RunningServer): Promise<string> {
  const answer = await fetchPatiently(`${url}/signup`, {
    method: 'POST',
    redirect: 'manual',
    body: new URLSearchParams({ email: 'ann@example.com', password: PASSWORD }),
  });
  expect(answer.status).toBe(303);
  return answer.headers
    .getSetCookie()
    .map((cookie) => cookie.split(';')[0])
    .join('; ');
}

function startCheckout({ url }: RunningServer, cookie: string): Promise<Response> {
  return fetchPatiently(`${url}/api/billing/checkout`, {
    method: 'POST',
    redirect: 'manual',
    headers: { cookie },
    body: new URLSearchParams({ plan: 'monthly' }),
  });
}
