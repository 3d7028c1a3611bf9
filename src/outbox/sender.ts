import { setImmediate as nextTurn, setTimeout as sleep } from 'node:timers/promises';

import type { Logger } from 'pino';

import type { OutboxItem } from '../db/generated/client.ts';
import { onQueued } from '../db/queued.ts';
import type { Db } from '../db/transaction.ts';
import { outboxItems, outboxOldest, outboxTries } from '../metrics.ts';
import { errorName } from './error-name.ts';
import { keepOutcome, readOutboxState, takeDue } from './items.ts';
import type { Outcome } from './items.ts';

/** Items in progress at the same time. */
const AT_ONCE = 5;

/** How often to look for retries and for items that other servers queued, ms. */
const POLL_MS = 30_000;

/** Timeout of an attempt, ms. It must be shorter than the item's lease. */
const TRY_MS = 60_000;

/** Shutdown grace period, ms. */
const GRACE_MS = 3_000;

/**
 * Carries out one item.
 *
 * @param signal aborts when the attempt has timed out or the server closes
 * @throws any error: the item is then tried again
 */
export type Perform = (item: OutboxItem, signal: AbortSignal) => Promise<Outcome>;

export interface SenderContext {
  db: Db;
  perform: Perform;
  logger: Pick<Logger, 'warn'>;
  now: () => Date;
}

export interface Sender {
  /** Looks for due items now. Resolves when all of them have been tried. */
  wake: () => Promise<void>;
  /** Stops. Attempts in flight get a grace period; after that they are aborted and are due again later. */
  close: () => Promise<void>;
}

/**
 * Starts the sender. It carries out outbox items after each commit that queued some, and every half minute.
 * The work runs outside any transaction, and the row records the outcome.
 */
export function startSender(context: SenderContext): Sender {
  const stop = new AbortController();
  const inFlight = new Set<Promise<void>>();
  let closing = false;
  let looking: Promise<void> | null = null;
  let lookAgain = false;

  function look(): Promise<void> {
    lookAgain = true;
    looking ??= takeAll();
    return looking;
  }

  async function takeAll(): Promise<void> {
    // Yield one tick so that commits of the same moment share a look-up.
    await nextTurn();
    while (lookAgain && !closing && inFlight.size < AT_ONCE) {
      lookAgain = false;
      const items = await takeDue(context.db, context.now(), AT_ONCE - inFlight.size).catch(tellFailure);
      for (const item of items) begin(item);
    }
    looking = null;
  }

  function begin(item: OutboxItem): void {
    const work: Promise<void> = tryItem(context, item, stop.signal)
      .catch(tellFailure)
      .then(() => {
        inFlight.delete(work);
        return look();
      });
    inFlight.add(work);
  }

  function tellFailure(error: unknown): [] {
    // Log no message: database errors repeat the values they were given.
    context.logger.warn(
      { err: errorName(error) },
      'the outbox could not be read or written; the server tries again',
    );
    return [];
  }

  async function poll(): Promise<void> {
    await look();
    await measure(context).catch(tellFailure);
  }
  const endListening = onQueued(() => void look());
  const timer = setInterval(() => void poll(), POLL_MS).unref();
  void poll();

  return {
    wake: async () => {
      await look();
      while (inFlight.size > 0) await Promise.all(inFlight);
    },
    close: async () => {
      closing = true;
      endListening();
      clearInterval(timer);
      await looking;
      const grace = new AbortController();
      await Promise.race([
        Promise.all(inFlight),
        sleep(GRACE_MS, undefined, { signal: grace.signal }).catch(() => undefined),
      ]);
      grace.abort();
      stop.abort();
      await Promise.all(inFlight);
    },
  };
}

async function tryItem(
  { db, perform, now }: SenderContext,
  item: OutboxItem,
  stop: AbortSignal,
): Promise<void> {
  const signal = AbortSignal.any([stop, AbortSignal.timeout(TRY_MS)]);
  const tried = await Promise.race([perform(item, signal), aborted(signal)]).catch(
    (error: unknown): Outcome => ({ status: 'again', why: errorName(error) }),
  );
  // The server is closing and the result is unknown. The item is due again when its lease ends.
  if (stop.aborted && tried.status === 'again') return;
  const { status } = await keepOutcome(db, item, tried, now());
  outboxTries.inc({ kind: item.kind, outcome: status });
}

function aborted(signal: AbortSignal): Promise<Outcome> {
  return new Promise((resolve) => {
    const again = (): void => {
      resolve({ status: 'again', why: `It took longer than ${TRY_MS / 1000} s.` });
    };
    signal.addEventListener('abort', again, { once: true });
  });
}

async function measure({ db, now }: SenderContext): Promise<void> {
  const { queued, failed, oldestSeconds } = await readOutboxState(db, now());
  outboxItems.set({ status: 'queued' }, queued);
  outboxItems.set({ status: 'failed' }, failed);
  outboxOldest.set(oldestSeconds ?? 0);
}
