import { setTimeout as pause } from 'node:timers/promises';

import type { StripeEvent } from './many-buyers.ts';
import type { Draw } from './seeded-random.ts';
import { signedPost } from './server.ts';

/** How many events are under way at a time. */
const IN_FLIGHT = 16;

/** One event in this many is sent again after it was acknowledged. */
const REPEATED = 10;

/** Retry delay, ms. */
const RETRY_MS = 200;

/** Timeout of an answer, ms. A slow server stays below it; a hanging one does not. */
const ANSWER_MS = 30_000;

export interface Deliveries {
  /** The ids of the events that were answered 200. */
  acknowledged: ReadonlySet<string>;
  /**
   * How often each answer occurred: its status (`503 Retry-After` with that header), `none` when the connection was
   * refused or broke before an answer, `half` when it broke during one.
   */
  answers: ReadonlyMap<string, number>;
  /** Resolves when this many events have been acknowledged, or all. */
  reach: (count: number) => Promise<void>;
  /** How many events are in flight now. */
  underWay: () => number;
  /** What was wrong with an answer, or that none came, as sentences. */
  surprises: readonly string[];
  done: Promise<void>;
}

/**
 * Stripe's side of the webhook: delivers each buyer's events in turn, many buyers at a time, over kept-alive
 * connections. It retries each event until it is acknowledged, and repeats some after that.
 *
 * @param webhook the URL
 * @param purchases the events of each buyer
 */
export function startDeliveries(
  webhook: string,
  purchases: readonly (readonly StripeEvent[])[],
  draw: Draw,
): Deliveries {
  const acknowledged = new Set<string>();
  const answers = new Map<string, number>();
  const surprises: string[] = [];
  const waiting = [...purchases];
  const awaited = new Map<number, () => void>();
  let underWay = 0;

  /** One attempt. */
  async function post(event: StripeEvent): Promise<{ kind: string; outcome?: string }> {
    let response: Response | null = null;
    underWay += 1;
    try {
      response = await fetch(webhook, { ...signedPost(event), signal: AbortSignal.timeout(ANSWER_MS) });
      const { status } = (await response.json()) as { status?: string };
      const later = response.headers.has('retry-after') ? ' Retry-After' : '';
      return { kind: `${response.status}${later}`, ...(status !== undefined && { outcome: status }) };
    } catch (error) {
      if (error instanceof Error && error.name === 'TimeoutError')
        surprises.push(`${event.id} was left waiting`);
      return { kind: response ? 'half' : 'none' };
    } finally {
      underWay -= 1;
    }
  }

  async function deliver(event: StripeEvent): Promise<void> {
    const known = acknowledged.has(event.id);
    // An unacknowledged attempt may still have been committed.
    let tries = 0;
    for (;;) {
      const { kind, outcome = 'nothing' } = await post(event);
      answers.set(kind, (answers.get(kind) ?? 0) + 1);
      tries += 1;
      if (kind === '200') {
        if (known && outcome !== 'duplicate')
          surprises.push(`${event.id} was sent again and answered ${outcome}, not duplicate`);
        if (!known && tries === 1 && outcome === 'duplicate')
          surprises.push(`${event.id} was called a duplicate at its first delivery`);
        acknowledged.add(event.id);
        awaited.get(acknowledged.size)?.();
        return;
      }
      await pause(RETRY_MS);
    }
  }

  async function deliverAll(): Promise<void> {
    for (let events = waiting.shift(); events; events = waiting.shift()) {
      for (const event of events) {
        await deliver(event);
        if (draw(REPEATED) === 0) await deliver(event);
      }
    }
  }

  const done = Promise.all(Array.from({ length: IN_FLIGHT }, deliverAll)).then(() => undefined);
  return {
    acknowledged,
    answers,
    reach: (count) =>
      acknowledged.size >= count
        ? Promise.resolve()
        : Promise.race([done, new Promise<void>((resolve) => awaited.set(count, resolve))]),
    underWay: () => underWay,
    surprises,
    done,
  };
}
