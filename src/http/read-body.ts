import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import { Readable } from 'node:stream';

import { errorCodes } from 'fastify';
import type { FastifyInstance } from 'fastify';

import { cutOff, noteAbuse } from './cut-off.ts';
import { HttpError } from './errors.ts';
import type { ReadHeldBody } from './held-bodies.ts';
import { networkOf } from './network.ts';
import { whenAnswered } from './when-answered.ts';

/**
 * Handling a piece takes as long as handling 500 bytes, so a body in tiny pieces is expensive. No ordinary client sends
 * one: TCP fills its segments while a body is sent, and even its default segment holds 536 bytes.
 * https://www.rfc-editor.org/rfc/rfc9293#section-3.7.1
 */
const MANY_PIECES = 16;
const TINY_BYTES = 512;

/** Most chunks in one of Node's reads, which is 64 KiB at most. Programs that send chunks make them 4 KiB or larger. */
const CHUNKS_OF_READ = 32;

/**
 * Cuts off a connection whose body comes in too many tiny pieces, even if nobody has begun to read it. Pieces that
 * Node discards after the answer are not counted; `closeUnreadBodies` closes the connection of a body in chunks.
 *
 * @param behindProxy a proxy can pass on what it reads in chunks of any size; from anybody else, a body in small chunks is
 *   cut off, and so is one with trailers, which no browser sends
 */
export function cutOffTinyPieces(server: Server, behindProxy: boolean): void {
  server.on('request', (request: IncomingMessage) => {
    if (!hasBody(request)) return;
    const push = request.push.bind(request);
    // How many more tiny pieces than others have come. Earlier large ones do not make up for thousands of tiny ones.
    let tiny = 0;
    let chunks = 0;
    let readBefore = -1;
    const isBoundByChunk = !behindProxy && request.headers['transfer-encoding'] !== undefined;
    // Node calls this with each piece, and with null at the end.
    request.push = (piece: Buffer | null, encoding) => {
      if (piece !== null) {
        tiny = piece.length < TINY_BYTES ? tiny + 1 : Math.max(0, tiny - 1);
        // It stays the same while Node parses one read.
        const { bytesRead } = request.socket;
        chunks = bytesRead === readBefore ? chunks + 1 : 1;
        readBefore = bytesRead;
        if (tiny > MANY_PIECES || (isBoundByChunk && chunks > CHUNKS_OF_READ)) cutOff(request.socket);
      } else if (isBoundByChunk && request.rawTrailers.length > 0) cutOff(request.socket);
      return push(piece, encoding);
    };
  });
}

/** Whether a request says that it has a body. */
export function hasBody({ headers }: IncomingMessage): boolean {
  const { 'content-length': length, 'transfer-encoding': encoding } = headers;
  return encoding !== undefined || Number(length ?? 0) > 0;
}

/**
 * Reads a whole body into one growing buffer. A list of its pieces would take hundreds of bytes for each piece of one
 * byte.
 *
 * @param limit its size, bytes, and the error to throw when the body is larger
 * @param admit takes the bytes of each piece before it is kept; returns the error to throw when there is no room
 * @throws HttpError 400 when the connection ends early; and the errors of `limit` and `admit`. The rest of a body that
 * they refuse is left unread, and the connection stays open for the answer
 */
export function readBody(
  request: IncomingMessage,
  limit: { bytes: number; error: Error },
  admit: (bytes: number) => Error | null = () => null,
): Promise<Buffer> {
  if (Number(request.headers['content-length'] ?? 0) > limit.bytes) return Promise.reject(limit.error);
  return new Promise((resolve, reject) => {
    let body: Buffer = Buffer.alloc(0);
    let length = 0;
    const onData = (piece: Buffer): void => {
      const refusal = length + piece.length > limit.bytes ? limit.error : admit(piece.length);
      if (refusal) {
        stop();
        request.pause();
        reject(refusal);
        return;
      }
      if (length + piece.length > body.length) body = grown(body, length + piece.length);
      length += piece.copy(body, length);
    };
    const onEnd = (): void => {
      stop();
      resolve(body.subarray(0, length));
    };
    const onBreak = (cause?: Error): void => {
      stop();
      const message = 'the connection ended before the whole body arrived';
      reject(new HttpError(400, 'broken_off', message, { cause }));
    };
    const stop = (): void => {
      request.off('data', onData).off('end', onEnd).off('error', onBreak).off('close', onBreak);
    };
    request.on('data', onData).on('end', onEnd).on('error', onBreak).on('close', onBreak);
    // A destroyed request emits no more events.
    if (request.destroyed) onBreak();
  });
}

/**
 * Reads the rest of a refused body and keeps nothing. Otherwise a client that is still sending would not see the answer.
 *
 * @param mostBytes the connection is closed after that many
 */
export function drainBody(request: IncomingMessage, mostBytes: number): Promise<void> {
  return new Promise((resolve) => {
    let length = 0;
    const onData = (piece: Buffer): void => {
      length += piece.length;
      if (length > mostBytes) cutOff(request.socket);
    };
    const stop = (): void => {
      request.off('data', onData).off('end', stop).off('error', stop).off('close', stop);
      resolve();
    };
    request.on('data', onData).on('end', stop).on('error', stop).on('close', stop);
    if (request.destroyed || request.readableEnded) stop();
    request.resume();
  });
}

/** A copy with room for at least `bytes`. The size doubles, so that copying stays linear. */
function grown(body: Buffer, bytes: number): Buffer {
  const larger = Buffer.allocUnsafe(Math.max(bytes, 2 * body.length));
  body.copy(larger);
  return larger;
}

/**
 * Reads the bodies of a scope's requests with `readBody` before Fastify's parsers get them. A route can bound the memory
 * that its bodies hold (`holdBody`).
 */
export function collectBodies(app: FastifyInstance): void {
  app.addHook('preParsing', async function collectBody(request, reply, payload) {
    const { raw, routeOptions } = request;
    if (readsOnly(raw)) return payload;
    app.giveBackBeforeWait(request);
    if (!hasBody(raw)) return payload;
    const { holdBody } = routeOptions.config;
    let body;
    if (holdBody) {
      const held = await holdBody(networkOf(request.ip), raw);
      whenAnswered(request, reply, held.release);
      ({ body } = held);
    } else {
      const error = new errorCodes.FST_ERR_CTP_BODY_TOO_LARGE();
      body = await readBody(raw, { bytes: routeOptions.bodyLimit, error });
    }
    await app.waitAfterBody(request, reply);
    const collected = new Readable({ read: () => undefined });
    if (body.length > 0) collected.push(body);
    collected.push(null);
    return collected;
  });
}

/**
 * GET and HEAD only. Fastify parses no body for these. The body of any other method, OPTIONS included, is read before the
 * request is handled.
 */
export function readsOnly({ method }: IncomingMessage): boolean {
  return method === 'GET' || method === 'HEAD';
}

/**
 * Closes the connection after the answer to a request that no browser sends (a GET or HEAD with a body, or a body in
 * chunks) if its body has not arrived in full. Otherwise Node would read the body to its end, and tiny chunks keep the
 * server busy.
 */
export function closeUnreadBodies(app: FastifyInstance): void {
  // Node answers 417 itself, reports no request, and would read the body. https://nodejs.org/api/http.html
  app.server.on('checkExpectation', ({ socket }: IncomingMessage, answer: ServerResponse) => {
    // Behind an earlier request, its answer would have to wait.
    if (answer.socket === null) cutOff(socket);
    else noteAbuse(socket);
    answer.writeHead(417, { connection: 'close' }).end();
  });
  app.addHook('onSend', function closeUnreadBody({ raw }, reply, _payload, done) {
    const isChunked = raw.headers['transfer-encoding'] !== undefined;
    if (hasBody(raw) && !raw.complete && (isChunked || readsOnly(raw))) {
      void reply.header('connection', 'close');
      // A proxy may give a GET an empty body in chunks; its end has arrived by then.
      reply.raw.once('close', () => {
        if (!raw.complete) noteAbuse(raw.socket);
      });
    }
    done();
  });
}

declare module 'fastify' {
  interface FastifyContextConfig {
    /** Reads the route's bodies (`createBodyReader`). Each counts as held until its request is answered. */
    holdBody?: ReadHeldBody;
  }
}
