import type { IncomingMessage } from 'node:http';

import type { Shares } from './bounds.ts';
import type { HttpError } from './errors.ts';
import { readBody } from './read-body.ts';

/** Reads a whole body into memory. */
export type ReadHeldBody = (network: string, request: IncomingMessage) => Promise<HeldBody>;

interface HeldBody {
  body: Buffer;
  /** Call it when the body is no longer needed: it counts as held until then. */
  release: () => void;
}

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
 * Limits the memory held by large bodies: of webhooks, which anyone can send, and whose signatures can only be checked
 * over the whole body, and of backups. Bytes count when they arrive, not when they are announced: otherwise a few headers
 * could reserve all the room. When there is no room, the largest unfinished body makes way for a smaller one: events
 * are small, so a few networks cannot keep Stripe's out. The buffers themselves can be twice as large.
 *
 * @param limit the size of one body, bytes, and the error to throw when one is larger
 * @param busy the error to throw when there is no room; the sender should retry
 * @returns a reader that throws these errors as early as Content-Length allows. It leaves the rest of a refused body
 * unread
 */
export function createBodyReader(
  bounds: Shares,
  limit: { bytes: number; error: HttpError },
  busy: HttpError,
): ReadHeldBody {
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

  return async (network, request) => {
    const announced = Number(request.headers['content-length'] ?? 0);
    const body: Unfinished = { network, held: 0, drop: () => void request.socket.destroy() };
    if (announced <= limit.bytes && !makeRoom(body, announced)) throw busy;
    const release = (): void => {
      hold(body, -body.held);
    };
    unfinished.add(body);
    try {
      const whole = await readBody(request, limit, (bytes) => {
        if (!makeRoom(body, bytes)) return busy;
        hold(body, bytes);
        return null;
      });
      return { body: whole, release };
    } catch (error) {
      release();
      throw error;
    } finally {
      unfinished.delete(body);
    }
  };
}
