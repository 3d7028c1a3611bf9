import { setTimeout as sleep } from 'node:timers/promises';

import { isDriverAdapterError } from '@prisma/driver-adapter-utils';

// SQLite has one write lock for all processes and no queue for it. Waiting processes poll with pauses that grow to 100
// ms, so a process that commits back to back can starve them. Ours poll at short, even intervals, and a process
// that has held the lock for a long time leaves a gap in which all the others poll.

const POLL_MS = 2;

/** After holding the lock for this long in total, a process leaves a gap before taking it again, ms. */
const TURN_MS = 100;

const GAP_MS = 5;

/**
 * The smallest gap as a share of the time the lock was held: on a slow machine the other processes poll more slowly
 * too.
 */
const GAP_SHARE = 1 / 20;

/**
 * Runs a statement that begins a transaction or is one by itself, and retries it while another process holds the
 * lock, without blocking the event loop.
 *
 * @param statement must not block: its connection has no busy timeout, or nobody else uses this event loop yet
 * @param waitMs when to give up, ms
 * @throws the driver's error for a locked database when the time is up
 */
export async function whenUnlocked<T>(statement: () => Promise<T>, waitMs: number): Promise<T> {
  const giveUpAt = performance.now() + waitMs;
  for (;;) {
    try {
      return await statement();
    } catch (error) {
      if (!isLocked(error) || performance.now() >= giveUpAt) throw error;
      await sleep(POLL_MS);
    }
  }
}

/** The official adapter's name for SQLITE_BUSY. */
function isLocked(error: unknown): boolean {
  return isDriverAdapterError(error) && error.cause.kind === 'SocketTimeout';
}

/** Tracks how long a connection has held the lock and leaves the gaps it owes to other processes. */
export interface Gaps {
  /** Call before taking the lock; waits if a gap is due. */
  leaveGap: () => Promise<void>;
  /** Call after taking the lock; returns the function to call after releasing it. */
  start: () => () => void;
}

/** @param clock milliseconds since some instant */
export function createGaps(clock = () => performance.now()): Gaps {
  let heldMs = 0;
  let freeMs = 0;
  let releasedAt = clock();
  return {
    leaveGap: async () => {
      const pauseMs = clock() - releasedAt;
      // A shorter pause does not count: it can fall between two polls of every other process.
      if (pauseMs >= POLL_MS) freeMs += pauseMs;
      if (heldMs < TURN_MS) return;
      // An idle process leaves enough room anyway.
      const missingMs = Math.max(GAP_MS, heldMs * GAP_SHARE) - freeMs;
      if (missingMs > 0) await sleep(missingMs);
      heldMs = freeMs = 0;
    },
    start: () => {
      const takenAt = clock();
      return () => {
        releasedAt = clock();
        heldMs += releasedAt - takenAt;
      };
    },
  };
}
