import type { SandboxOptions } from './options.ts';
import { Refusal } from './refusal.ts';
import { signatureHeader } from './sign.ts';
import type { State } from './state.ts';
import { toEpoch } from './time.ts';
import type { StripeEvent } from './types.ts';

/**
 * Pauses between attempts, s. They are short at first, for a server that is still starting, and then hourly.
 */
const RETRY_DELAYS = [1, 5, 30, 300, 3600, 3600, 3600, 3600, 3600];

/** Timeout of a delivery, ms. */
const ANSWER_TIMEOUT = 10_000;

/** Controls the delivery of events. */
export interface Webhooks {
  /** Stops automatic deliveries for good: only `send` delivers from now on. */
  hold: () => void;
  /** Ids of the events still to be delivered (neither acknowledged, nor given up, nor lost), oldest first. */
  waiting: () => string[];
  /**
   * Sends one event now, even if it was acknowledged before. A 2xx acknowledges it. A failure schedules no
   * retry. Resolves to the HTTP status, or 0 when there was no answer.
   *
   * @throws Refusal when the event does not exist
   */
  send: (eventId: string) => Promise<number>;
  /**
   * Gives up on an event. It is no longer sent automatically, but stays in the list of events.
   *
   * @throws Refusal when the event does not exist
   */
  drop: (eventId: string) => void;
}

export interface Deliveries extends Webhooks {
  /**
   * Tries all events now, concurrently as Stripe does. Never rejects. Resolves when each has been tried once.
   * Does nothing while events are held.
   */
  publish: (events: StripeEvent[]) => Promise<void>;
  /** Schedules the events that an earlier run did not deliver. */
  resume: () => void;
  /** Stops retrying and waits for deliveries in flight. Undelivered events stay in the state. */
  close: () => Promise<void>;
}

/**
 * Creates the deliverer without starting it. Each event is tried up to ten times, until the webhook answers
 * 2xx. Each attempt has its own signature. See https://docs.stripe.com/webhooks#retries
 *
 * @param state its `undelivered` is kept up to date
 * @param save called after each change to the state
 */
export function createDeliveries(
  options: Pick<SandboxOptions, 'webhookUrl' | 'webhookSecret' | 'now' | 'log'>,
  state: State,
  save: () => void,
): Deliveries {
  const inFlight = new Set<Promise<unknown>>();
  /** Scheduled retries, by event id. */
  const retries = new Map<string, NodeJS.Timeout>();
  let closed = false;
  let held = false;

  /** Posts an event once, and tracks the request while it is in flight. */
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

  /** Attempts a delivery automatically: a failure schedules a retry. */
  async function tryOnce(event: StripeEvent, failures: number): Promise<void> {
    const { problem } = await attempt(event);
    if (problem !== undefined && !held) {
      tryLater(event, failures, problem);
    }
  }

  function tryLater(event: StripeEvent, failures: number, problem: string): void {
    // The event may have been dropped or sent in the meantime.
    if (closed || !state.undelivered.has(event.id)) {
      return;
    }
    const label = `sandbox: webhook ${event.type} (${event.id}) failed: ${problem}`;
    const delay = RETRY_DELAYS[failures];
    if (delay === undefined) {
      options.log(`${label}; gave up after ${failures + 1} attempts`);
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
    // A retry hours away must not keep the process alive.
    timer.unref();
    retries.set(event.id, timer);
  }

  /** Removes an event that needs no more attempts. */
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

  function eventOf(eventId: string): StripeEvent {
    const event = state.events.get(eventId);
    if (event === undefined) {
      throw new Refusal(`Event ${eventId} does not exist.`);
    }
    return event;
  }

  function waiting(): StripeEvent[] {
    return [...state.undelivered]
      .flatMap((id) => state.events.get(id) ?? [])
      .sort((a, b) => a.created - b.created);
  }

  return {
    async publish(events) {
      if (!held) {
        await Promise.all(events.map((event) => tryOnce(event, 0)));
      }
    },
    resume() {
      for (const event of waiting()) {
        // The receiver is probably still starting, so an immediate attempt would only log a failure.
        startLater(event, 0, RETRY_DELAYS[0] ?? 0);
      }
    },
    hold() {
      held = true;
      cancelRetries();
    },
    waiting() {
      return waiting().map((event) => event.id);
    },
    async send(eventId) {
      const { status } = await attempt(eventOf(eventId));
      return status;
    },
    drop(eventId) {
      eventOf(eventId);
      settle(eventId);
    },
    async close() {
      closed = true;
      cancelRetries();
      await Promise.all(inFlight);
    },
  };
}

interface Outcome {
  /** 0 when there was no answer. */
  status: number;
  /** Undefined when the receiver accepted the event. */
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
      // Stripe treats a redirect as a failure.
      redirect: 'manual',
      signal: AbortSignal.timeout(ANSWER_TIMEOUT),
    });
    // Drain the body to free the connection for the next delivery.
    await response.arrayBuffer();
    return { status: response.status, problem: response.ok ? undefined : `HTTP ${response.status}` };
  } catch (error) {
    return { status: 0, problem: reason(error) };
  }
}

/** `fetch` itself only says "fetch failed". The reason is in its cause. */
function reason(error: unknown): string {
  if (!(error instanceof Error)) {
    return String(error);
  }
  if (error.cause instanceof Error) {
    // When several addresses were tried (::1, 127.0.0.1), the cause has a code but no message.
    return error.cause.message || ('code' in error.cause ? String(error.cause.code) : error.cause.name);
  }
  return error.message;
}
