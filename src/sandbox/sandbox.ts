import formbody from '@fastify/formbody';
import Fastify from 'fastify';
import qs from 'qs';

import { serveApi } from './api.ts';
import type { Context } from './context.ts';
import { createDeliveries } from './deliveries.ts';
import { newId } from './ids.ts';
import { buildPrice } from './objects.ts';
import type { SandboxOptions } from './options.ts';
import { servePages } from './pages.ts';
import { loadState, saveState } from './state.ts';
import { DAY, toEpoch } from './time.ts';

export type { SandboxOptions } from './options.ts';

/** Stripe, too, keeps events for 30 days: https://docs.stripe.com/api/events */
const EVENT_LIFETIME = 30 * DAY;

/** A running sandbox. */
export interface Sandbox {
  /** Where its pages and its API are, without a trailing slash. */
  url: string;
  /** The port that it got. */
  apiPort: number;
  /** Waits for the deliveries that are in flight, stops retrying and stops listening. */
  close: () => Promise<void>;
  /** Resolves when no webhook is in flight or waiting to be retried. */
  settled: () => Promise<void>;
}

/**
 * Starts a stand-in for Stripe on a port of its own: its API for the `stripe` package, its checkout and portal
 * for people, its signed webhooks for the server. No money moves, and nothing leaves the machine.
 *
 * @param options where to listen, whom to call, and what to sell
 * @returns the running sandbox
 * @throws Error when the port is taken or the state file cannot be read
 */
export async function startSandbox(options: SandboxOptions): Promise<Sandbox> {
  const { host, port, publicHost, prices, stateFile, log } = options;
  const state = loadState(stateFile);

  const oldest = toEpoch(options.now()) - EVENT_LIFETIME;
  for (const event of state.events.values()) {
    if (event.created < oldest && !state.undelivered.has(event.id)) {
      state.events.delete(event.id);
    }
  }

  function save(): void {
    if (stateFile === undefined) {
      return;
    }
    try {
      saveState(state, stateFile);
    } catch (error) {
      log(`sandbox: cannot write ${stateFile}: ${error instanceof Error ? error.message : String(error)}`);
    }
  }

  const deliveries = createDeliveries(options, state, save);
  let url = '';
  const context: Context = {
    options,
    state,
    prices: new Map([
      [prices.monthly, buildPrice(prices.monthly, 'Monthly', 'month', 900)],
      [prices.annual, buildPrice(prices.annual, 'Annual', 'year', 9000)],
    ]),
    baseUrl: () => url,
    save,
    publish(events) {
      for (const event of events) {
        state.events.set(event.id, event);
        state.undelivered.add(event.id);
      }
      // All of them are on disk before the first one is sent: a crash in between loses none.
      save();
      return deliveries.send(events);
    },
  };

  const app = Fastify({
    // Shown as Request-Id.
    genReqId: () => newId('req'),
    routerOptions: { querystringParser: (text) => qs.parse(text) },
  });
  await app.register(formbody, { parser: (text: string) => qs.parse(text) });
  await app.register(
    (scope, _options, done) => {
      serveApi(scope, context);
      done();
    },
    { prefix: '/v1' },
  );
  servePages(app, context);

  await app.listen({ host, port });
  const [address] = app.addresses();
  const apiPort = typeof address === 'object' ? address.port : port;
  url = `http://${publicHost}:${apiPort}`;
  deliveries.resume();

  return {
    url,
    apiPort,
    async close() {
      await app.close();
      await deliveries.close();
    },
    settled: deliveries.settled,
  };
}
