import { Stripe } from 'stripe';
import { onTestFinished } from 'vitest';

import { startSandbox } from '../../src/sandbox/sandbox.ts';
import { START } from './server.ts';

const API_KEY = 'sk_test_sandbox';

/** What the sandbox sells in its own tests. */
export const PRICES = { monthly: 'price_monthly', annual: 'price_annual' };

export type HeldSandbox = Awaited<ReturnType<typeof startHeldSandbox>>;

/** A sandbox on its own, with held events and a clock that the test moves. */
export async function startHeldSandbox(extra: { stateFile?: string } = {}, now = START) {
  const clock = { now };
  const sandbox = await startSandbox({
    host: '127.0.0.1',
    port: 0,
    publicHost: 'localhost',
    localHost: '127.0.0.1',
    seller: 'Tandem',
    apiKey: API_KEY,
    webhookSecret: 'whsec_sandbox',
    webhookUrl: () => 'http://127.0.0.1:9',
    prices: PRICES,
    now: () => clock.now,
    log: () => undefined,
    ...extra,
  });
  sandbox.webhooks.hold();
  onTestFinished(() => sandbox.close());
  const stripe = new Stripe(API_KEY, {
    host: '127.0.0.1',
    port: sandbox.apiPort,
    protocol: 'http',
    maxNetworkRetries: 0,
  });
  let seen = 0;

  /** The events since the last call. */
  function fresh() {
    const all = [...sandbox.objects.events.values()];
    const events = all.slice(seen);
    seen = all.length;
    return events;
  }

  /** Their types, in alphabetical order. */
  function told() {
    return fresh()
      .map((event) => event.type)
      .sort();
  }

  function later(seconds: number) {
    clock.now = new Date(clock.now.getTime() + seconds * 1000);
  }

  return { stripe, ...sandbox, fresh, told, later };
}
