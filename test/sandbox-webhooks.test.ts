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
  const receiver = { ids, status: 200 };
  const server = createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on('data', (chunk: Buffer) => chunks.push(chunk));
    request.on('end', () => {
      const signature = String(request.headers['stripe-signature']);
      ids.push(new Stripe(API_KEY).webhooks.constructEvent(Buffer.concat(chunks), signature, SECRET).id);
      response.writeHead(receiver.status).end();
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
  const sandbox = await startSandbox({
    host: '127.0.0.1',
    port: 0,
    publicHost: 'localhost',
    localHost: '127.0.0.1',
    seller: 'Tandem',
    apiKey: API_KEY,
    webhookSecret: SECRET,
    webhookUrl: () => webhookUrl,
    prices: PRICES,
    now: () => new Date(),
    log: () => undefined,
  });
  onTestFinished(() => sandbox.close());
  const stripe = new Stripe(API_KEY, {
    host: '127.0.0.1',
    port: sandbox.apiPort,
    protocol: 'http',
    maxNetworkRetries: 0,
  });
  return { ...sandbox, stripe };
}

test('events that are held wait, oldest first', async () => {
  const receiver = await startReceiver();
  const { webhooks, stripe, objects } = await start(receiver.url);
  webhooks.hold();
  await stripe.customers.create();
  await stripe.customers.create();
  expect(webhooks.waiting()).toEqual([...objects.events.keys()]);
  expect(receiver.ids).toEqual([]);
});

test('an event can be sent in any order, and more than once', async () => {
  const receiver = await startReceiver();
  const { webhooks, stripe, objects } = await start(receiver.url);
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
  expect(objects.events.get(second)).toMatchObject({ pending_webhooks: 0 });
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
  const listed = (await stripe.events.list()).data.map((one) => [one.id, one.pending_webhooks]);
  expect(listed).toEqual([
    [second, 1],
    [first, 1],
  ]);
  expect(await webhooks.send(first)).toBe(200);
  expect(() => {
    webhooks.drop('evt_none');
  }).toThrow('does not exist');
});

test('where nobody answers the status is 0', async () => {
  const { webhooks, stripe } = await start('http://127.0.0.1:9');
  webhooks.hold();
  await stripe.customers.create();
  const [event = ''] = webhooks.waiting();
  expect(await webhooks.send(event)).toBe(0);
  expect(webhooks.waiting()).toEqual([event]);
});
