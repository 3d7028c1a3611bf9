import { setTimeout as sleep } from 'node:timers/promises';

import { isDriverAdapterError } from '@prisma/driver-adapter-utils';

// SQLite has one write lock for all processes, and no queue for it: a process that waits polls, in pauses that grow to
// 100 ms, and one that commits back to back takes the lock again before the others look. So ours poll in short, even
// pauses, and leave gaps that are longer than those.

/** Pause between two attempts to take the lock, ms. */
const POLL_MS = 2;

/** A process that has held the lock for this long in all leaves a gap before it takes it again, ms. */
const TURN_MS = 100;

/** The least gap, ms. */
const GAP_MS = 5;

/** The least gap as a share of the time that the lock was held: on a slow machine the others poll more slowly, too. */
const GAP_SHARE = 1 / 20;

/**
 * Runs a statement that begins a transaction, or is one by itself. While another process holds the lock it is tried
 * again, without blocking the event loop.
 *
 * @param statement runs it on a connection that does not wait by itself
 * @param waitMs when to give up, ms
 * @returns what the statement returned
 * @throws what the statement throws; the driver's error for a locked database when the wait is over
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

/** The official adapter's word for SQLITE_BUSY. */
function isLocked(error: unknown): boolean {
  return isDriverAdapterError(error) && error.cause.kind === 'SocketTimeout';
}

/** Keeps track of how long one connection has held the lock, and leaves the gaps that are due to other processes. */
export interface Turns {
  /** Call it before taking the lock: it waits when a gap is due. */
  leaveGap: () => Promise<void>;
  /** Call it when the lock is taken; it returns what to call when the lock is released. */
  start: () => () => void;
}

/** @returns the turns of a new connection */
export function createTurns(): Turns {
  let heldMs = 0;
  let freeMs = 0;
  let releasedAt = performance.now();
  return {
    leaveGap: async () => {
      freeMs += performance.now() - releasedAt;
      if (heldMs < TURN_MS) return;
      // A process that is not busy leaves enough room by itself.
      const missingMs = Math.max(GAP_MS, heldMs * GAP_SHARE) - freeMs;
      if (missingMs > 0) await sleep(missingMs);
      heldMs = freeMs = 0;
    },
    start: () => {
      const takenAt = performance.now();
      return () => {
        releasedAt = performance.now();
        heldMs += releasedAt - takenAt;
      };
    },
  };
}
