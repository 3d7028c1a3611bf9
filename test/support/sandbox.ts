import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';

import { Stripe } from 'stripe';
import { expect, onTestFinished } from 'vitest';

import { startSandbox } from '../../src/sandbox/sandbox.ts';
import type { Sandbox, SandboxOptions } from '../../src/sandbox/sandbox.ts';

const API_KEY = 'sk_test_sandbox';
const WEBHOOK_SECRET = 'whsec_sandbox';

/** What the sandbox sells in its own tests. */
export const PRICES = { monthly: 'price_monthly', annual: 'price_annual' };

/** Nothing listens here. */
export const NOWHERE = 'http://127.0.0.1:9';

/** Options of a sandbox: a free port, the real clock, and a webhook URL where nothing listens. */
export const SANDBOX_OPTIONS: SandboxOptions = {
  host: '127.0.0.1',
  port: 0,
  publicHost: 'localhost',
  localHost: '127.0.0.1',
  seller: 'Tandem',
  apiKey: API_KEY,
  webhookSecret: WEBHOOK_SECRET,
  webhookUrl: () => NOWHERE,
  prices: PRICES,
  now: () => new Date(),
  log: () => undefined,
};

/** Starts a sandbox on its own, which is closed after the test. */
export async function startTestSandbox(extra: Partial<SandboxOptions> = {}): Promise<Sandbox> {
  const sandbox = await startSandbox({ ...SANDBOX_OPTIONS, ...extra });
  onTestFinished(sandbox.close);
  return sandbox;
}

/** The stripe package as a client of a sandbox, without retries. */
export function sandboxClient({ apiPort }: Sandbox, apiKey = API_KEY): Stripe {
  return new Stripe(apiKey, {
    host: '127.0.0.1',
    port: apiPort,
    protocol: 'http',
    maxNetworkRetries: 0,
    telemetry: false,
  });
}

/** Waits until every event has been delivered. */
export async function delivered({ webhooks }: Sandbox): Promise<void> {
  await expect.poll(() => webhooks.waiting(), { timeout: 20_000 }).toEqual([]);
}

/**
 * Receives webhooks, and checks every signature with Stripe's package.
 *
 * @param statuses the first answers; every later one is 200
 */
export async function startReceiver(statuses: number[] = []) {
  /** What was acknowledged. */
  const events: Stripe.Event[] = [];
  const attempts: { id: string; signature: string }[] = [];
  const server = createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on('data', (chunk: Buffer) => chunks.push(chunk));
    request.on('end', () => {
      const signature = String(request.headers['stripe-signature']);
      const body = Buffer.concat(chunks);
      const event = new Stripe(API_KEY).webhooks.constructEvent(body, signature, WEBHOOK_SECRET);
      const status = statuses.shift() ?? 200;
      attempts.push({ id: event.id, signature });
      if (status === 200) events.push(event);
      response.writeHead(status).end();
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  onTestFinished(() => {
    server.close();
  });
  const { port } = server.address() as AddressInfo;
  return { events, attempts, url: `http://127.0.0.1:${port}/webhook` };
}
