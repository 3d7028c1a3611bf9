import type { IncomingMessage } from 'node:http';

import type { WebhookBodyBounds } from './bounds.ts';
import { HttpError } from './errors.ts';

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

  function checkRoom(address: string, bytes: number): void {
    const ofAddress = (heldOf.get(address) ?? 0) + bytes;
    if (ofAddress > bounds.ofAddress || heldInAll + bytes > bounds.inAll) throw busy();
  }

  return async (address, request) => {
    const announced = Number(request.headers['content-length'] ?? 0);
    if (announced > BODY_LIMIT_BYTES) throw TOO_LARGE;
    checkRoom(address, announced);
    // One buffer that grows: kept as they come, pieces of one byte would take hundreds of bytes each.
    let body: Buffer = Buffer.alloc(0);
    let length = 0;
    try {
      // Keep the connection open: a refusal must still be answered.
      for await (const chunk of request.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>) {
        if (length + chunk.length > BODY_LIMIT_BYTES) throw TOO_LARGE;
        checkRoom(address, chunk.length);
        hold(address, chunk.length);
        if (length + chunk.length > body.length) body = grown(body, length + chunk.length);
        length += chunk.copy(body, length);
      }
      return body.subarray(0, length);
    } catch (error) {
      if (error instanceof HttpError) throw error;
      throw new HttpError(400, 'broken_off', 'the connection ended before the whole body arrived', {
        cause: error,
      });
    } finally {
      hold(address, -length);
    }
  };
}

/** A copy with room for at least `bytes`. The size doubles, so that copying stays linear. */
function grown(body: Buffer, bytes: number): Buffer {
  const larger = Buffer.allocUnsafe(Math.max(bytes, 2 * body.length));
  body.copy(larger);
  return larger;
}
