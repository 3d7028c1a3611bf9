import formbody from '@fastify/formbody';
import Fastify from 'fastify';
import type { FastifyInstance } from 'fastify';
import qs from 'qs';

import { createActs } from './acts.ts';
import type { Acts } from './acts.ts';
import { buildPrice } from './build-objects.ts';
import { serveCheckoutPage } from './checkout-page.ts';
import { serveControlPanel } from './control-panel.ts';
import { createDeliveries } from './deliveries.ts';
import type { Webhooks } from './deliveries.ts';
import { newId } from './ids.ts';
import { serveMailbox, takeMail } from './mailbox.ts';
import type { HandedMail } from './mailbox.ts';
import type { SandboxOptions } from './options.ts';
import { servePortalPage } from './portal-page.ts';
import type { Context } from './sandbox-context.ts';
import { serveApi } from './serve-api.ts';
import { serveShared } from './shared-page.ts';
import { loadState, saveState } from './state.ts';
import type { NotCollections, State } from './state.ts';
import { DAY, toEpoch } from './time.ts';

export type { Acts } from './acts.ts';
export type { HandedMail } from './mailbox.ts';
export type { Webhooks } from './deliveries.ts';
export type { SandboxOptions } from './options.ts';

/** Stripe keeps events for 30 days too: https://docs.stripe.com/api/events */
const EVENT_LIFETIME = 30 * DAY;

/** How often the clock is checked, ms. */
const TICK = 60_000;

/** The sandbox's objects, read-only. */
export type Objects = {
  readonly [K in keyof Omit<State, NotCollections | 'answers' | 'portals' | 'orders'>]: ReadonlyMap<
    string,
    Readonly<State[K] extends Map<string, infer T> ? T : never>
  >;
};

export interface Sandbox {
  /** The URL of its pages and API, without a trailing slash. */
  url: string;
  apiPort: number;
  /** The API's URL for programs on this machine, without a path. */
  apiBase: string;
  /** The sandbox's clock: the real one plus the time that people let pass. */
  now: () => Date;
  /** Puts an email into the mailbox at `/mail`. A duplicate is recognised by its Message-ID. */
  takeMail: (mail: HandedMail) => void;
  /** Stops listening and retrying, and waits for deliveries in flight. */
  close: () => Promise<void>;
  /** Controls which events reach the webhook, and in which order. */
  webhooks: Webhooks;
  /** Actions of people, banks and time. */
  acts: Acts;
  objects: Objects;
}

/**
 * Starts a stand-in for Stripe on its own port. It serves the API for the `stripe` package and the checkout
 * and portal for people, and sends signed webhooks to the server. No money moves, and nothing leaves the
 * machine.
 *
 * @throws Error when the port is taken or the state file cannot be read
 */
export async function startSandbox(options: SandboxOptions): Promise<Sandbox> {
  const { host, port, publicHost, localHost, apiKey, stateFile } = options;
  const state = loadState(stateFile);

  function now(): Date {
    return new Date(options.now().getTime() + state.aheadMs);
  }

  dropOldEvents(state, now());
  const save = saverOf(state, options);
  const deliveries = createDeliveries({ ...options, now }, state, save);
  const { hold, waiting, send, drop } = deliveries;
  // Without a state file, as in most tests, no timer makes due things happen.
  const timePasses = stateFile !== undefined;
  let url = '';
  let listening = false;
  const context: Context = {
    options,
    state,
    now,
    prices: buildPrices(options),
    baseUrl: () => url,
    save,
    publish(events) {
      // Events caused by an API request of the server are delivered, and do not use up `losesNext`.
      const areLost = state.losesNext && events.some(({ request }) => request.id === null);
      state.losesNext &&= !areLost;
      for (const event of events) {
        state.events.set(event.id, event);
        if (!areLost) {
          state.undelivered.add(event.id);
        }
      }
      // Save all events before sending the first one, so that a crash in between loses none.
      save();
      // `resume` delivers the events that became due before listening.
      return listening && !areLost ? deliveries.publish(events) : Promise.resolve();
    },
  };

  const app = await createApp(context);
  const acts = createActs(context);

  await app.listen({ host, port });
  const [address] = app.addresses();
  const apiPort = typeof address === 'object' ? address.port : port;
  url = `http://${publicHost}:${apiPort}`;
  const apiBase = `http://${localHost}:${apiPort}`;
  state.access = { apiBase, apiKey };
  save();
  if (timePasses) {
    await acts.advance();
  }
  listening = true;
  deliveries.resume();
  const ticks = timePasses ? setInterval(() => void acts.advance(), TICK).unref() : undefined;

  return {
    url,
    apiPort,
    apiBase,
    now,
    takeMail: (mail) => {
      takeMail(context, mail);
    },
    async close() {
      clearInterval(ticks);
      await app.close();
      await deliveries.close();
      state.access = null;
      save();
    },
    webhooks: { hold, waiting, send, drop },
    acts,
    objects: state,
  };
}

function dropOldEvents({ events, undelivered }: State, now: Date): void {
  const oldest = toEpoch(now) - EVENT_LIFETIME;
  for (const event of events.values()) {
    if (event.created < oldest && !undelivered.has(event.id)) {
      events.delete(event.id);
    }
  }
}

function saverOf(state: State, { stateFile, log }: SandboxOptions): () => void {
  return () => {
    if (stateFile === undefined) {
      return;
    }
    try {
      saveState(state, stateFile);
    } catch (error) {
      log(`sandbox: cannot write ${stateFile}: ${error instanceof Error ? error.message : String(error)}`);
    }
  };
}

function buildPrices({ prices, otherPrice }: SandboxOptions): Context['prices'] {
  const others = otherPrice === undefined ? [] : [otherPrice];
  return new Map([
    [prices.monthly, buildPrice(prices.monthly, 'Monthly', 'month', 900)],
    [prices.annual, buildPrice(prices.annual, 'Annual', 'year', 9000)],
    ...others.map((id) => [id, buildPrice(id, 'Other', 'month', 500, 'prod_other')] as const),
  ]);
}

/** The API for the `stripe` package, and all pages for people. */
async function createApp(context: Context): Promise<FastifyInstance> {
  const app = Fastify({
    // Sent as Request-Id.
    genReqId: () => newId('req'),
    // A client that keeps its connection open must not delay closing.
    forceCloseConnections: true,
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
  serveShared(app, context);
  serveCheckoutPage(app, context);
  servePortalPage(app, context);
  serveControlPanel(app, context);
  serveMailbox(app, context);
  return app;
}
