import type { IncomingMessage, RequestListener, Server } from 'node:http';

import type { FastifyInstance } from 'fastify';

import type { Bounds } from './bounds.ts';
import { boundConnections } from './connections.ts';
import { cutOff, noteAbuse } from './cut-off.ts';
import { BUSY, HttpError } from './errors.ts';
import { networkOf } from './network.ts';
import { cutOffTinyPieces, hasBody } from './read-body.ts';
import { createTaker } from './shares.ts';
import { isWebhook } from './webhook-path.ts';

const TOO_MANY_AT_ONCE = new HttpError(
  503,
  BUSY,
  'Too many requests are still being received. Please try again in a moment.',
);

const TOO_MANY_HEADERS = new HttpError(431, 'too_many_headers', 'This request has too many headers.');

/**
 * Stops one client from crowding out the others. Call it before registering any expensive hook.
 *
 * @param behindProxy all connections come from a proxy, so do not count them by address
 */
export function boundOneClient(app: FastifyInstance, bounds: Bounds, behindProxy: boolean): void {
  // Must come before any other 'request' listener, because it replaces the existing ones.
  refusePipelining(app.server);
  cutOffTinyPieces(app.server, behindProxy);
  // Node drops almost all headers beyond this number. One over the limit is enough for a refusal.
  app.server.maxHeadersCount = bounds.headers + 1;
  boundLargeAnswers(app, bounds);
  if (behindProxy) {
    app.server.maxConnections = bounds.connections;
    shortenForwarded(app.server);
  } else {
    boundConnections(app.server, bounds);
    refuseManyHeaders(app, bounds, false);
  }
}

/**
 * Refuses requests with too many headers: reading one costs about a microsecond, and Node reads thousands of them. A
 * proxy's connection stays open, because other clients use it next. Behind a proxy, therefore, call this after
 * `boundRequestsUnderWay`: the refusal, too, must wait for its turn.
 */
export function refuseManyHeaders(app: FastifyInstance, { headers }: Bounds, behindProxy: boolean): void {
  app.addHook('onRequest', function refuseIfManyHeaders({ raw }, reply, done) {
    if (!hasManyHeaders(raw, headers)) {
      done();
      return;
    }
    if (!behindProxy) {
      noteAbuse(raw.socket);
      void reply.header('connection', 'close');
    }
    done(TOO_MANY_HEADERS);
  });
}

/** https://www.rfc-editor.org/rfc/rfc9112#section-3.2 */
function lacksHost({ httpVersion, headers }: IncomingMessage): boolean {
  return httpVersion === '1.1' && headers.host === undefined;
}

function hasManyHeaders({ rawHeaders }: IncomingMessage, most: number): boolean {
  // Names and values in turn.
  return rawHeaders.length > 2 * most;
}

/**
 * For a server behind a proxy: limits how many requests may be incomplete when their turn has come, of each network and
 * in total. Each holds a connection. Call it after `boundRequestsUnderWay`, because a request that waits there is not
 * read meanwhile.
 */
export function boundIncompleteRequests(
  app: FastifyInstance,
  { incomplete: { webhooks, others }, patienceMs }: Bounds,
): void {
  const takeForWebhook = createTaker(webhooks, patienceMs);
  const takeForOther = createTaker(others, patienceMs);

  app.addHook('onRequest', function boundIncompleteRequest(request, reply, done) {
    const { raw, ip } = request;
    const { socket } = raw;
    if (!hasBody(raw) || raw.complete || socket.destroyed) {
      done();
      return;
    }
    const take = isWebhook(request) ? takeForWebhook : takeForOther;
    const giveBack = take(networkOf(ip), () => socket.destroy());
    if (giveBack) {
      // Runs when the body has been read, or never will be. If the request was answered before its body arrived, Node
      // may emit 'close' only on the socket.
      const release = (): void => {
        raw.off('close', release);
        socket.off('close', release);
        giveBack();
      };
      raw.once('close', release);
      socket.once('close', release);
      done();
      return;
    }
    // Otherwise the connection would stay open for the rest of the body.
    void reply.header('connection', 'close');
    done(TOO_MANY_AT_ONCE);
  });
}

/**
 * Closes a connection on which a request arrives before the previous one has been answered (pipelining). Browsers and proxies
 * do not pipeline. Node reads 64 KiB at a time and hands over every request in it: thousands of pages would be rendered
 * at once, and a few such requests on each of many connections would keep everybody else waiting.
 * https://www.rfc-editor.org/rfc/rfc9112#section-9.3.2
 */
function refusePipelining(server: Server): void {
  // Replace Fastify's listener, so that refused requests never reach it.
  const [serve] = server.listeners('request') as RequestListener[];
  server.removeAllListeners('request');

  server.on('request', (request, response) => {
    const { socket } = request;
    // A response gets the connection once the one before it is sent.
    if (response.socket === null) cutOff(socket);
    else if (lacksHost(request)) {
      noteAbuse(socket);
      response.writeHead(400, { connection: 'close' }).end();
    } else serve?.(request, response);
  });
}

/** Longest X-Forwarded-For that is read, characters: ten addresses. */
const FORWARDED = 500;

/**
 * Keeps only the end of a long X-Forwarded-For, where the proxies in front appended their clients' addresses. What comes
 * before that was sent by the client itself. Without the cut, 15 KB of it would be read several times per request, at a
 * millisecond each time.
 */
function shortenForwarded(server: Server): void {
  server.prependListener('request', ({ headers }) => {
    const sent = headers['x-forwarded-for'];
    if (typeof sent !== 'string' || sent.length <= FORWARDED) return;
    const end = sent.slice(-FORWARDED);
    headers['x-forwarded-for'] = end.slice(end.indexOf(',') + 1);
  });
}

/** Smaller answers fit into the buffers of the connection, even if its client reads nothing. */
const LARGE_BYTES = 16 * 1024;

/**
 * Closes a connection that takes too long to read a large answer. Otherwise a client could make us hold many of them
 * for hours, reading a few bytes now and then.
 */
function boundLargeAnswers(app: FastifyInstance, { answerMs, answerBytesPerSecond }: Bounds): void {
  app.addHook('onSend', function boundLargeAnswer(_request, reply, payload, done) {
    const bytes =
      typeof payload === 'string' || Buffer.isBuffer(payload)
        ? Buffer.byteLength(payload)
        : // A file that is sent piece by piece.
          Number(reply.getHeader('content-length') ?? 0);
    const { raw } = reply;
    if (bytes >= LARGE_BYTES && !raw.destroyed) {
      const timer = setTimeout(() => raw.destroy(), answerMs + (bytes / answerBytesPerSecond) * 1000);
      raw.once('close', () => {
        clearTimeout(timer);
      });
    }
    done();
  });
}
