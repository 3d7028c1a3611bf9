import type { IncomingMessage } from 'node:http';

import type { WebhookBodyBounds } from './bounds.ts';
import { HttpError } from './errors.ts';
import { readBody } from './read-body.ts';

/** Stripe's events are far smaller. */
const BODY_LIMIT_BYTES = 1024 * 1024;

const TOO_LARGE = new HttpError(413, 'too_large', 'the body is larger than 1 MiB');

/** Reads a whole body into memory. */
type ReadBody = (address: string, request: IncomingMessage) => Promise<Buffer>;

/**
 * Limits the memory held by unverified bodies. Anyone can send one, and its signature can only be checked
 * over the whole body. Bytes count when they arrive, not when they are announced: otherwise a few headers
 * could reserve all the room. The buffers themselves can be twice as large.
 * @param busy the error to throw when there is no room; the sender should retry
 * @returns a reader that throws 413 for a body that is too large, or `busy`, as early as Content-Length
 * allows. It leaves the rest of a refused body unread
 */
export function createBodyReader(bounds: WebhookBodyBounds, busy: () => HttpError): ReadBody {
  const heldOf = new Map<string, number>();
  let heldInAll = 0;

  function hold(address: string, bytes: number): void {
    const ofAddress = (heldOf.get(address) ?? 0) + bytes;
    if (ofAddress === 0) heldOf.delete(address);
    else heldOf.set(address, ofAddress);
    heldInAll += bytes;
  }

  function isRoomFor(address: string, bytes: number): boolean {
    return (heldOf.get(address) ?? 0) + bytes <= bounds.ofAddress && heldInAll + bytes <= bounds.inAll;
  }

  return async (address, request) => {
    const announced = Number(request.headers['content-length'] ?? 0);
    if (announced <= BODY_LIMIT_BYTES && !isRoomFor(address, announced)) throw busy();
    let held = 0;
    try {
      return await readBody(request, { bytes: BODY_LIMIT_BYTES, error: TOO_LARGE }, (bytes) => {
        if (!isRoomFor(address, bytes)) return busy();
        hold(address, bytes);
        held += bytes;
        return null;
      });
    } finally {
      hold(address, -held);
    }
  };
}
