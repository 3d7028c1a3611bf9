import type { IncomingMessage } from 'node:http';

import type { Shares } from './bounds.ts';
import { HttpError } from './errors.ts';
import { readBody } from './read-body.ts';

/** Stripe's events are far smaller. */
const BODY_LIMIT_BYTES = 1024 * 1024;

const TOO_LARGE = new HttpError(413, 'too_large', 'the body is larger than 1 MiB');

/**
 * Reads a whole body into memory.
 *
 * @param turn resolves when the body may be handled; it counts as held until then
 */
type ReadBody = (network: string, request: IncomingMessage, turn: () => Promise<void>) => Promise<Buffer>;

/** A body that has not arrived in full. */
interface Unfinished {
  /** Of its sender: see `networkOf`. */
  network: string;
  /** How many of its bytes have arrived. */
  held: number;
  /** Closes its connection. */
  drop: () => void;
}

/**
 * Limits the memory held by unverified bodies. Anyone can send one, and its signature can only be checked
 * over the whole body. Bytes count when they arrive, not when they are announced: otherwise a few headers
 * could reserve all the room. When there is no room, the largest unfinished body makes way for a smaller one: events
 * are small, so a few networks cannot keep Stripe's out. The buffers themselves can be twice as large.
 *
 * @param busy the error to throw when there is no room; the sender should retry
 * @returns a reader that throws 413 for a body that is too large, or `busy`, as early as Content-Length
 * allows. It leaves the rest of a refused body unread
 */
export function createBodyReader(bounds: Shares, busy: () => HttpError): ReadBody {
  const heldOf = new Map<string, number>();
  const unfinished = new Set<Unfinished>();
  let heldInAll = 0;

  function hold(body: Unfinished, bytes: number): void {
    const ofNetwork = (heldOf.get(body.network) ?? 0) + bytes;
    if (ofNetwork === 0) heldOf.delete(body.network);
    else heldOf.set(body.network, ofNetwork);
    body.held += bytes;
    heldInAll += bytes;
  }

  /** Whether there is room for more bytes of a body, if need be after dropping larger ones. */
  function makeRoom(body: Unfinished, bytes: number): boolean {
    if ((heldOf.get(body.network) ?? 0) + bytes > bounds.ofNetwork) return false;
    while (heldInAll + bytes > bounds.inAll) {
      const largest = [...unfinished].reduce((a, b) => (b.held > a.held ? b : a), body);
      if (largest.held <= body.held + bytes) return false;
      unfinished.delete(largest);
      hold(largest, -largest.held);
      largest.drop();
    }
    return true;
  }

  return async (network, request, turn) => {
    const announced = Number(request.headers['content-length'] ?? 0);
    const body: Unfinished = { network, held: 0, drop: () => void request.socket.destroy() };
    if (announced <= BODY_LIMIT_BYTES && !makeRoom(body, announced)) throw busy();
    unfinished.add(body);
    try {
      const whole = await readBody(request, { bytes: BODY_LIMIT_BYTES, error: TOO_LARGE }, (bytes) => {
        if (!makeRoom(body, bytes)) return busy();
        hold(body, bytes);
        return null;
      });
      unfinished.delete(body);
      await turn();
      return whole;
    } finally {
      unfinished.delete(body);
      hold(body, -body.held);
    }
  };
}
