import type { SandboxOptions } from './options.ts';
import { signatureHeader } from './signature.ts';
import type { State } from './state.ts';
import { toEpoch } from './time.ts';
import type { StripeEvent } from './types.ts';

/** Seconds between one failed try and the next: quick at first, for a server that is just starting, then hourly. */
const RETRY_DELAYS = [1, 5, 30, 300, 3600, 3600, 3600, 3600, 3600];

/** A receiver that has not answered after this many milliseconds has failed. */
const ANSWER_TIMEOUT = 10_000;

/** Carries events to the webhook. */
export interface Deliveries {
  /** Tries each event now, all at once as Stripe does; resolves, and never rejects, when each was tried once. */
  send: (events: StripeEvent[]) => Promise<void>;
  /** Takes up what an earlier run did not deliver. */
  resume: () => void;
  /** Resolves when no delivery is in flight or waiting. */
  settled: () => Promise<void>;
  /** Stops retrying and waits for what is in flight; what is undelivered stays so in the state. */
  close: () => Promise<void>;
}

/**
 * Makes the carrier. Each event is tried until the webhook answers 2xx, ten times at most, and each try is signed
 * anew. See https://docs.stripe.com/webhooks#retries
 *
 * @param options where to, the secret, the clock and the log
 * @param state whose `undelivered` is kept up to date
 * @param save called after each change to the state
 * @returns the carrier, at rest
 */
export function createDeliveries(
  options: Pick<SandboxOptions, 'webhookUrl' | 'webhookSecret' | 'now' | 'log'>,
  state: State,
  save: () => void,
): Deliveries {
  const inFlight = new Set<Promise<void>>();
  const waiting = new Set<NodeJS.Timeout>();
  let idleListeners: (() => void)[] = [];
  let closed = false;

  function start(event: StripeEvent, failures: number): Promise<void> {
    const attempt = tryOnce(event, failures).finally(() => {
      inFlight.delete(attempt);
      tellIfIdle();
    });
    inFlight.add(attempt);
    return attempt;
  }

  async function tryOnce(event: StripeEvent, failures: number): Promise<void> {
    const problem = await post(options, event);
    if (problem === undefined) {
      event.pending_webhooks = 0;
      state.undelivered.delete(event.id);
      save();
      return;
    }
    if (closed) {
      return;
    }
    const label = `sandbox: webhook ${event.type} (${event.id}) failed: ${problem}`;
    const delay = RETRY_DELAYS[failures];
    if (delay === undefined) {
      options.log(`${label}; given up after ${failures + 1} tries`);
      state.undelivered.delete(event.id);
      save();
    } else {
      options.log(`${label}; next try in ${delay} s`);
      startLater(event, failures + 1, delay);
    }
  }

  function startLater(event: StripeEvent, failures: number, delay: number): void {
    const timer = setTimeout(() => {
      waiting.delete(timer);
      void start(event, failures);
    }, delay * 1000);
    // A retry that is hours away must not keep the process alive.
    timer.unref();
    waiting.add(timer);
  }

  function tellIfIdle(): void {
    if (inFlight.size === 0 && waiting.size === 0) {
      const listeners = idleListeners;
      idleListeners = [];
      for (const listener of listeners) {
        listener();
      }
    }
  }

  return {
    async send(events) {
      await Promise.all(events.map((event) => start(event, 0)));
    },
    resume() {
      for (const id of state.undelivered) {
        const event = state.events.get(id);
        if (event !== undefined) {
          // The receiver is probably starting too, so that trying at once would only log a failure.
          startLater(event, 0, RETRY_DELAYS[0] ?? 0);
        }
      }
    },
    settled() {
      return new Promise((resolve) => {
        idleListeners.push(resolve);
        tellIfIdle();
      });
    },
    async close() {
      closed = true;
      for (const timer of waiting) {
        clearTimeout(timer);
      }
      waiting.clear();
      await Promise.all(inFlight);
      tellIfIdle();
    },
  };
}

/** Posts one event; returns what went wrong, or undefined when the receiver took it. */
async function post(
  options: Pick<SandboxOptions, 'webhookUrl' | 'webhookSecret' | 'now'>,
  event: StripeEvent,
): Promise<string | undefined> {
  try {
    const body = JSON.stringify(event, null, 2);
    const response = await fetch(options.webhookUrl(), {
      method: 'POST',
      headers: {
        'content-type': 'application/json; charset=utf-8',
        'stripe-signature': signatureHeader(options.webhookSecret, toEpoch(options.now()), body),
        'user-agent': 'Stripe-Sandbox/1.0',
      },
      body,
      // To Stripe a redirect is a failure like any other.
      redirect: 'manual',
      signal: AbortSignal.timeout(ANSWER_TIMEOUT),
    });
    // The answer's text is of no interest, but read to its end it frees the connection for the next delivery.
    await response.arrayBuffer();
    return response.ok ? undefined : `HTTP ${response.status}`;
  } catch (error) {
    return reason(error);
  }
}

/** `fetch` says only "fetch failed" and hides why in the cause. */
function reason(error: unknown): string {
  if (!(error instanceof Error)) {
    return String(error);
  }
  if (error.cause instanceof Error) {
    // Several addresses tried (::1, 127.0.0.1) make a cause without a message, but with a code.
    return error.cause.message || ('code' in error.cause ? String(error.cause.code) : error.cause.name);
  }
  return error.message;
}
