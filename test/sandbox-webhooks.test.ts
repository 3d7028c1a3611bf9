import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';

import Stripe from 'stripe';
import { expect, onTestFinished, test } from 'vitest';

import { startSandbox } from '../src/sandbox/sandbox.ts';

const API_KEY = 'sk_test_sandbox';
const SECRET = 'whsec_sandbox';
const PRICES = { monthly: 'price_monthly', annual: 'price_annual' };

/** A webhook receiver that checks each signature, records the event's id, and gives the answer it is told to. */
async function startReceiver() {
  const ids: string[] = [];
  const receiver = { ids, status: 200, onEvent: () => Promise.resolve() };
  const server = createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on('data', (chunk: Buffer) => chunks.push(chunk));
    request.on('end', () => {
      const signature = String(request.headers['stripe-signature']);
      ids.push(new Stripe(API_KEY).webhooks.constructEvent(Buffer.concat(chunks), signature, SECRET).id);
      void receiver.onEvent().then(() => response.writeHead(receiver.status).end());
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  onTestFinished(() => {
    server.close();
  });
  const { port } = server.address() as AddressInfo;
  return Object.assign(receiver, { url: `http://127.0.0.1:${port}/webhook` });
}

async function start(webhookUrl: string) {
  const lines: string[] = [];
  const sandbox = await startSandbox({
    host: '127.0.0.1',
    port: 0,
    publicHost: 'localhost',
    apiKey: API_KEY,
    webhookSecret: SECRET,
    webhookUrl: () => webhookUrl,
    prices: PRICES,
    now: () => new Date(),
    log: (line) => lines.push(line),
  });
  onTestFinished(() => sandbox.close());
  const stripe = new Stripe(API_KEY, {
    host: '127.0.0.1',
    port: sandbox.apiPort,
    protocol: 'http',
    maxNetworkRetries: 0,
  });
  return { ...sandbox, stripe, lines };
}

test('held events wait, and are released one after the other, oldest first', async () => {
  const receiver = await startReceiver();
  const { webhooks, stripe, settled, objects } = await start(receiver.url);
  webhooks.hold();
  for (const email of ['a@example.com', 'b@example.com', 'c@example.com']) {
    await stripe.customers.create({ email });
  }
  await settled();
  expect(receiver.ids).toEqual([]);
  const waiting = webhooks.waiting();
  expect(waiting).toEqual([...objects.events.keys()]);

  let inFlight = 0;
  let created = false;
  receiver.onEvent = async () => {
    inFlight += 1;
    expect(inFlight).toBe(1);
    if (!created) {
      created = true;
      // Events that occur meanwhile wait for their turn.
      await stripe.customers.create({ email: 'd@example.com' });
    }
    inFlight -= 1;
  };
  await webhooks.release();
  expect(receiver.ids.slice(0, 3)).toEqual(waiting);
  expect(receiver.ids).toEqual([...objects.events.keys()]);
  expect(webhooks.waiting()).toEqual([]);

  receiver.onEvent = () => Promise.resolve();
  await stripe.customers.create();
  await settled();
  expect(receiver.ids).toHaveLength(5);
});

test('an event can be sent in any order, and more than once', async () => {
  const receiver = await startReceiver();
  const { webhooks, stripe } = await start(receiver.url);
  webhooks.hold();
  await stripe.customers.create();
  await stripe.customers.create();
  const [first = '', second = ''] = webhooks.waiting();
  receiver.status = 500;
  expect(await webhooks.send(second)).toBe(500);
  expect(webhooks.waiting()).toEqual([first, second]);
  receiver.status = 200;
  expect(await webhooks.send(second)).toBe(200);
  expect(webhooks.waiting()).toEqual([first]);
  expect(await webhooks.send(second)).toBe(200);
  expect(receiver.ids).toEqual([second, second, second]);
  expect((await stripe.events.retrieve(second)).pending_webhooks).toBe(0);
  await expect(webhooks.send('evt_none')).rejects.toThrow('does not exist');
});

test('a dropped event is never sent automatically and stays in the list', async () => {
  const receiver = await startReceiver();
  const { webhooks, stripe } = await start(receiver.url);
  webhooks.hold();
  await stripe.customers.create();
  await stripe.customers.create();
  const [first = '', second = ''] = webhooks.waiting();
  webhooks.drop(first);
  expect(webhooks.waiting()).toEqual([second]);
  await webhooks.release();
  expect(receiver.ids).toEqual([second]);
  expect(await stripe.events.retrieve(first)).toMatchObject({ pending_webhooks: 1 });
  expect((await stripe.events.list({ delivery_success: false })).data.map((one) => one.id)).toEqual([first]);
  expect(await webhooks.send(first)).toBe(200);
  expect(() => {
    webhooks.drop('evt_none');
  }).toThrow('does not exist');
});

test('a hold stops the retries, and a release resumes them', async () => {
  const receiver = await startReceiver();
  const { webhooks, stripe, settled, lines } = await start(receiver.url);
  receiver.status = 503;
  await stripe.customers.create();
  await expect.poll(() => lines.length).toBe(1);
  webhooks.hold();
  await settled();
  await new Promise((resolve) => setTimeout(resolve, 1200));
  expect(receiver.ids).toHaveLength(1);

  await webhooks.release();
  expect(lines).toHaveLength(2);
  receiver.status = 200;
  await settled();
  expect(receiver.ids).toHaveLength(3);
  expect(webhooks.waiting()).toEqual([]);
});

test('the status is 0 when nobody answers', async () => {
  const { webhooks, stripe } = await start('http://127.0.0.1:9');
  webhooks.hold();
  await stripe.customers.create();
  const [event = ''] = webhooks.waiting();
  expect(await webhooks.send(event)).toBe(0);
  expect(webhooks.waiting()).toEqual([event]);
});

test('a hundred sandboxes start and close at once, whatever connections are open', async () => {
  const began = Date.now();
  for (let count = 0; count < 100; count += 1) {
    const { webhooks, stripe, close } = await start('http://127.0.0.1:9');
    webhooks.hold();
    await stripe.customers.create();
    await close();
  }
  expect(Date.now() - began).toBeLessThan(10_000);
});
