/** Lets requests begin so that no turn of the event loop gets long. */
export interface Turns {
  /** Begins a request now, or in a later turn when this one has been long enough: first come, first served. */
  begin: (request: () => void) => void;
  /**
   * The shortest wait since the last call, ms. One pause, such as that of a machine that stood still, makes some requests
   * wait; where even the luckiest one waited long, there is too much to do.
   */
  shortestWait: () => number;
}

/** The most of one turn that requests get to begin, ms. */
const LONGEST_SHARE_MS = 50;

/**
 * Bounds the work that begins in one turn of the event loop.
 *
 * SQLite answers at once, so a request runs from its first byte to its answer without giving the turn away, and a turn
 * takes as long as all requests that have arrived. Node accepts one new connection in each turn: of 64 browsers that
 * connected at the same time, the last one was heard after 63 turns in which everybody else got a page.
 *
 * Requests that are refused for overload never come here, and refusing a flood of them can take most of a turn. So while
 * requests wait they get as much time as everything else took since their last share.
 *
 * @param limitMs how long requests may be begun in one turn, ms
 * @param clock milliseconds of a clock that only goes forward
 */
export function createTurns(limitMs: number, clock: () => number): Turns {
  let waiting = 0;
  let turnBegan: number | null = null;
  /** How much of this turn requests get, ms, and when they had used it up. */
  let share = limitMs;
  let shareEnded: number | null = null;
  let shortest: number | null = null;

  function isOver(): boolean {
    const now = clock();
    if (turnBegan !== null) {
      const over = now - turnBegan >= share;
      if (over) shareEnded ??= now;
      return over;
    }
    const elsewhere = shareEnded === null ? 0 : now - shareEnded;
    share = Math.max(limitMs, Math.min(elsewhere, LONGEST_SHARE_MS));
    shareEnded = null;
    turnBegan = now;
    setImmediate(() => {
      turnBegan = null;
    });
    return false;
  }

  function start(request: () => void, arrived: number): void {
    const wait = clock() - arrived;
    shortest = Math.min(shortest ?? wait, wait);
    request();
  }

  // One immediate for each request: what a request does at once is done before the next immediate looks at the clock.
  function wait(request: () => void, arrived: number): void {
    setImmediate(() => {
      if (isOver()) {
        wait(request, arrived);
        return;
      }
      waiting -= 1;
      start(request, arrived);
    });
  }

  return {
    begin: (request) => {
      const arrived = clock();
      if (waiting === 0 && !isOver()) {
        start(request, arrived);
        return;
      }
      waiting += 1;
      wait(request, arrived);
    },
    shortestWait: () => {
      const wait = shortest ?? 0;
      shortest = null;
      return wait;
    },
  };
}
