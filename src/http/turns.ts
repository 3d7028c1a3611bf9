import { createFairQueue } from './fair-queue.ts';

/** Spreads the start of requests so that no turn of the event loop gets long. */
export interface Turns {
  /**
   * Starts a request now, or in a later turn when this one has been long enough. Sites take turns.
   *
   * @param site where the request comes from (`siteOf`)
   */
  begin: (site: string, request: () => void) => void;
  /**
   * The shortest wait since the last call, ms. A single pause, such as a suspended machine, delays only some
   * requests; if even the shortest wait is long, the server is overloaded.
   */
  shortestWait: () => number;
  /** Call for each connection that the server accepts. */
  accepted: () => void;
}

interface Waiting {
  request: () => void;
  /** By the clock, ms. */
  arrived: number;
}

/** Maximum share while requests wait, ms. */
const LONGEST_SHARE_MS = 50;

/** While connections are accepted, requests get a share at least this often, ms. */
const LONGEST_PAUSE_MS = 50;

/**
 * Limits the work started in one turn of the event loop.
 * SQLite answers synchronously, so a request runs from its first byte to its answer without yielding, and a
 * turn lasts as long as all the requests that have arrived. Node accepts one new connection per turn: of 64
 * browsers that connect at once, the last would wait 63 turns in which everyone else gets a page. While connections are
 * being accepted, requests therefore wait, at most LONGEST_PAUSE_MS from one share to the next.
 * Requests refused for overload never come here, and refusing a flood of them can take most of a turn. While
 * requests wait, they therefore get as much time as everything else took since their last share, at most
 * LONGEST_SHARE_MS.
 *
 * @param limitMs usual share of a turn for starting requests, ms
 * @param clock a monotonic clock, ms
 */
export function createTurns(limitMs: number, clock: () => number): Turns {
  const waiting = createFairQueue<Waiting>();
  let turnBegan: number | null = null;
  /** Time for requests in this turn, ms. */
  let share = limitMs;
  /** When the requests of a turn had used up their share; null once the next share begins. */
  let shareEnded: number | null = null;
  let shareBegan = clock();
  let shortest: number | null = null;
  /** Connections accepted in this turn and the one before. */
  let newcomers = 0;

  function isOver(): boolean {
    const now = clock();
    if (turnBegan !== null) {
      const over = now - turnBegan >= share;
      if (over) shareEnded ??= now;
      return over;
    }
    if (newcomers > 0 && now - shareBegan < LONGEST_PAUSE_MS) {
      shareEnded ??= now;
      return true;
    }
    shareBegan = now;
    const elsewhere = shareEnded === null ? 0 : now - shareEnded;
    share = Math.max(limitMs, Math.min(elsewhere, LONGEST_SHARE_MS));
    shareEnded = null;
    turnBegan = now;
    setImmediate(() => {
      turnBegan = null;
    });
    return false;
  }

  function start({ request, arrived }: Waiting): void {
    const wait = clock() - arrived;
    shortest = Math.min(shortest ?? wait, wait);
    request();
  }

  // One immediate for each waiting request: the synchronous work of a request finishes before the next immediate reads
  // the clock. Each starts the next request, not its own: immediates that are set again fall behind new ones.
  function startLater(): void {
    setImmediate(() => {
      const next = isOver() ? undefined : waiting.shift();
      if (next) start(next);
      else startLater();
    });
  }

  return {
    begin: (site, request) => {
      const one = { request, arrived: clock() };
      if (waiting.size() === 0 && !isOver()) {
        start(one);
        return;
      }
      waiting.push(site, one);
      startLater();
    },
    shortestWait: () => {
      const wait = shortest ?? 0;
      shortest = null;
      return wait;
    },
    accepted: () => {
      newcomers += 1;
      setImmediate(() => setImmediate(() => (newcomers -= 1)));
    },
  };
}
