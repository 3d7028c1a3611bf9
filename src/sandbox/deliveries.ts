import type { SandboxOptions } from './options.ts';
import { signatureHeader } from './signature.ts';
import type { State } from './state.ts';
import { toEpoch } from './time.ts';
import type { StripeEvent } from './types.ts';

/** Seconds between one failed try and the next: quick at first, for a server that is just starting, then hourly. */
const RETRY_DELAYS = [1, 5, 30, 300, 3600, 3600, 3600, 3600, 3600];

/** A receiver that has not answered after this many milliseconds has failed. */
const ANSWER_TIMEOUT = 10_000;

/** Stripe's side of the webhook, in somebody's hands. */
export interface Webhooks {
  /** From now on nothing is sent by itself; events wait, and so do retries. */
  hold: () => void;
  /** Sends what waits, oldest first, one after the other; from then on events are sent by themselves again. */
  release: () => Promise<void>;
  /** Ids of the events that are neither acknowledged nor given up, oldest first. */
  waiting: () => string[];
  /**
   * Sends one event now, whether or not it was acknowledged before; a 2xx acknowledges it, a failure schedules
   * nothing. Answers the HTTP status, 0 when nobody answered.
   *
   * @throws Error when there is no such event
   */
  send: (eventId: string) => Promise<number>;
  /**
   * Gives an event up: it is never sent by itself, and stays in the list of events.
   *
   * @throws Error when there is no such event
   */
  drop: (eventId: string) => void;
}

/** Carries events to the webhook. */
export interface Deliveries extends Webhooks {
  /**
   * Tries each event now, all at once as Stripe does; resolves, and never rejects, when each was tried once. While
   * events are held it does nothing.
   */
  publish: (events: StripeEvent[]) => Promise<void>;
  /** Takes up what an earlier run did not deliver. */
  resume: () => void;
  /** Resolves when no delivery is in flight or waiting to be retried; held events are not waited for. */
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
  const inFlight = new Set<Promise<unknown>>();
  /** Retries that are scheduled, by the event's id. */
  const retries = new Map<string, NodeJS.Timeout>();
  let idleListeners: (() => void)[] = [];
  let closed = false;
  let held = false;
  /** Counts the holds: a new one ends the release that is under way. */
  let holds = 0;
  let releasing: Promise<void> | undefined;

  /** Posts once and keeps count of what is in flight. */
  function attempt(event: StripeEvent): Promise<Outcome> {
    const outcome = post(options, event).then((result) => {
      if (result.problem === undefined) {
        event.pending_webhooks = 0;
        settle(event.id);
      }
      return result;
    });
    inFlight.add(outcome);
    return outcome.finally(() => {
      inFlight.delete(outcome);
    });
  }

  /** Tries an event that nobody but the clock asked for, and tries it again later when that fails. */
  async function tryOnce(event: StripeEvent, failures: number): Promise<void> {
    const { problem } = await attempt(event);
    if (problem !== undefined && !held) {
      tryLater(event, failures, problem);
    }
    tellIfIdle();
  }

  function tryLater(event: StripeEvent, failures: number, problem: string): void {
    // Meanwhile somebody may have dropped or sent it.
    if (closed || !state.undelivered.has(event.id)) {
      return;
    }
    const label = `sandbox: webhook ${event.type} (${event.id}) failed: ${problem}`;
    const delay = RETRY_DELAYS[failures];
    if (delay === undefined) {
      options.log(`${label}; given up after ${failures + 1} tries`);
      settle(event.id);
    } else {
      options.log(`${label}; next try in ${delay} s`);
      startLater(event, failures + 1, delay);
    }
  }

  function startLater(event: StripeEvent, failures: number, delay: number): void {
    clearTimeout(retries.get(event.id));
    const timer = setTimeout(() => {
      retries.delete(event.id);
      void tryOnce(event, failures);
    }, delay * 1000);
    // A retry that is hours away must not keep the process alive.
    timer.unref();
    retries.set(event.id, timer);
  }

  /** Nothing more is to be done about an event. */
  function settle(eventId: string): void {
    clearTimeout(retries.get(eventId));
    retries.delete(eventId);
    state.undelivered.delete(eventId);
    save();
  }

  function cancelRetries(): void {
    for (const timer of retries.values()) {
      clearTimeout(timer);
    }
    retries.clear();
  }

  function tellIfIdle(): void {
    if (inFlight.size === 0 && retries.size === 0) {
      const listeners = idleListeners;
      idleListeners = [];
      for (const listener of listeners) {
        listener();
      }
    }
  }

  function eventOf(eventId: string): StripeEvent {
    const event = state.events.get(eventId);
    if (event === undefined) {
      throw new Error(`There is no event ${eventId}.`);
    }
    return event;
  }

  function waiting(): StripeEvent[] {
    return [...state.undelivered]
      .flatMap((id) => state.events.get(id) ?? [])
      .sort((a, b) => a.created - b.created);
  }

  async function sendWaiting(): Promise<void> {
    const hold = holds;
    const problems = new Map<StripeEvent, string>();
    const tried = new Set<string>();
    // Events that come up meanwhile wait for their turn, so that none is sent before an older one.
    for (let event = waiting()[0]; event !== undefined; event = waiting().find((one) => !tried.has(one.id))) {
      tried.add(event.id);
      const { problem } = await attempt(event);
      if (problem !== undefined) {
        problems.set(event, problem);
      }
      if (hold !== holds || closed) {
        return;
      }
    }
    held = false;
    for (const [event, problem] of problems) {
      tryLater(event, 0, problem);
    }
    tellIfIdle();
  }

  return {
    async publish(events) {
      if (!held) {
        await Promise.all(events.map((event) => tryOnce(event, 0)));
      }
    },
    resume() {
      for (const event of waiting()) {
        // The receiver is probably starting too, so that trying at once would only log a failure.
        startLater(event, 0, RETRY_DELAYS[0] ?? 0);
      }
    },
    hold() {
      held = true;
      holds += 1;
      cancelRetries();
      tellIfIdle();
    },
    async release() {
      if (held) {
        releasing ??= sendWaiting().finally(() => {
          releasing = undefined;
        });
        await releasing;
      }
    },
    waiting() {
      return waiting().map((event) => event.id);
    },
    async send(eventId) {
      const { status } = await attempt(eventOf(eventId));
      tellIfIdle();
      return status;
    },
    drop(eventId) {
      eventOf(eventId);
      settle(eventId);
      tellIfIdle();
    },
    settled() {
      return new Promise((resolve) => {
        idleListeners.push(resolve);
        tellIfIdle();
      });
    },
    async close() {
      closed = true;
      cancelRetries();
      await Promise.all(inFlight);
      tellIfIdle();
    },
  };
}

/** What came of one try. */
interface Outcome {
  /** The answer's HTTP status, 0 when nobody answered. */
  status: number;
  /** What went wrong; undefined when the receiver took it. */
  problem: string | undefined;
}

/** Posts one event; never rejects. */
async function post(
  options: Pick<SandboxOptions, 'webhookUrl' | 'webhookSecret' | 'now'>,
  event: StripeEvent,
): Promise<Outcome> {
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
    return { status: response.status, problem: response.ok ? undefined : `HTTP ${response.status}` };
  } catch (error) {
    return { status: 0, problem: reason(error) };
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
