import type { IncomingMessage, RequestListener, Server, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';

import type { FastifyInstance } from 'fastify';

import type { Bounds, Shares } from './bounds.ts';
import { cutOff, onAbuse } from './cut-off.ts';
import { BUSY, HttpError } from './errors.ts';
import { networkOf } from './network.ts';
import { hasBody } from './read-body.ts';
import { WEBHOOK_PATH } from './webhook-path.ts';

const TOO_MANY_AT_ONCE = new HttpError(
  503,
  BUSY,
  'Too many requests are still being received. Please try again in a moment.',
);

/**
 * Stops one client from crowding out the others. Call it before registering any expensive hook.
 *
 * @param behindProxy all connections come from a proxy, so do not count them by address
 */
export function boundOneClient(app: FastifyInstance, bounds: Bounds, behindProxy: boolean): void {
  boundPipelines(app.server, bounds.pipelined);
  boundLargeAnswers(app, bounds);
  if (behindProxy) {
    app.server.maxConnections = bounds.connections;
    boundBodies(app, bounds);
  } else {
    boundConnections(app.server, bounds);
  }
}

/** Limits one network's incomplete requests, and all of them: each holds a connection. */
function boundBodies(app: FastifyInstance, { incomplete: { webhooks, others }, patienceMs }: Bounds): void {
  const takeForWebhook = createShares(webhooks, patienceMs);
  const takeForOther = createShares(others, patienceMs);

  app.addHook('onRequest', function boundBodiesOfClient({ raw, ip, routeOptions }, reply, done) {
    const { socket } = raw;
    if (!hasBody(raw) || socket.destroyed) {
      done();
      return;
    }
    const take = routeOptions.url?.startsWith(WEBHOOK_PATH) ? takeForWebhook : takeForOther;
    const giveBack = take(networkOf(ip), () => socket.destroy());
    if (giveBack) {
      // Runs when the body has arrived, or never will. If the request was answered before its body arrived, Node may
      // emit 'close' only on the socket.
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
 * Closes a connection with too many pipelined requests. Node reads 64 KiB at a time and hands over every
 * request in it, so a client could ask for thousands of pages and read none; all of them would be rendered
 * and held in memory.
 */
function boundPipelines(server: Server, most: number): void {
  const waitingOn = new WeakMap<Socket, number>();
  // Replace Fastify's listener, so that refused requests never reach it.
  const [serve] = server.listeners('request') as RequestListener[];
  server.removeAllListeners('request');

  server.on('request', (request, response) => {
    const { socket } = request;
    // A response has no socket until the one before it is sent.
    if (response.socket === null) {
      const waiting = waitingOn.get(socket) ?? 0;
      // Node still hands over the remaining requests that it has read.
      if (waiting >= most) cutOff(socket);
      if (socket.destroyed) return;
      waitingOn.set(socket, waiting + 1);
      response.once('close', () => waitingOn.set(socket, (waitingOn.get(socket) ?? 1) - 1));
    }
    serve?.(request, response);
  });
}

/** Smaller answers fit into the buffers of the connection, even if its client offers none. */
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

/**
 * Limits all connections, and one network's. When there is no room, one makes way: the oldest of the network that has most
 * of them, unless the new connection's network has as many, or else the oldest of all that waits for no answer and is older
 * than `patienceMs`. After too many cut-offs of a network, closes its other connections and refuses new ones for a while: by
 * the time we cut a connection off, Node has already handed over the 64 KiB that it read.
 */
function boundConnections(
  server: Server,
  { connections, connectionsOfNetwork, cutOffsOfNetwork, shutOutMs, patienceMs }: Bounds,
): void {
  /** When each was opened, by a monotonic clock, ms. The oldest comes first, here and in `openOf`. */
  const opened = new Map<Socket, number>();
  const openOf = new Map<string, Set<Socket>>();
  const exchanges = new WeakMap<Socket, { request: IncomingMessage; response: ServerResponse }>();
  server.on('request', (request: IncomingMessage, response: ServerResponse) => {
    exchanges.set(request.socket, { request, response });
  });

  /** How far the answer to a connection's last request has come; null when there is no complete request. */
  function answerOn(socket: Socket): 'awaited' | 'being read' | 'sent' | null {
    const exchange = exchanges.get(socket);
    if (!exchange?.request.complete) return null;
    if (exchange.response.writableFinished) return 'sent';
    return exchange.response.headersSent ? 'being read' : 'awaited';
  }

  function ofLargestNetwork(newcomer: string): Socket | undefined {
    let largest = new Set<Socket>();
    for (const open of openOf.values()) if (open.size > largest.size) largest = open;
    if (largest.size <= (openOf.get(newcomer)?.size ?? 0) + 1) return undefined;
    return [...largest].find((socket) => answerOn(socket) !== 'awaited');
  }

  function oldestOfAll(): Socket | undefined {
    const now = performance.now();
    for (const [socket, since] of opened) {
      if (now - since < patienceMs) return undefined;
      const answer = answerOn(socket);
      if (answer === null || answer === 'sent') return socket;
    }
    return undefined;
  }

  /** Whether there is room for one more connection of a network, if need be after closing another one. */
  function makeRoom(network: string): boolean {
    if (opened.size < connections) return true;
    const socket = ofLargestNetwork(network) ?? oldestOfAll();
    if (!socket) return false;
    opened.delete(socket);
    socket.destroy();
    return true;
  }

  const cutOffsOf = new Map<string, { count: number; forget: NodeJS.Timeout }>();
  server.on('connection', (socket: Socket) => {
    const network = networkOf(socket.remoteAddress ?? '');
    const open = openOf.get(network) ?? new Set();
    const isShutOut = (cutOffsOf.get(network)?.count ?? 0) >= cutOffsOfNetwork;
    if (isShutOut || open.size >= connectionsOfNetwork || !makeRoom(network)) {
      socket.destroy();
      return;
    }
    opened.set(socket, performance.now());
    openOf.set(network, open.add(socket));
    socket.once('close', () => {
      opened.delete(socket);
      open.delete(socket);
      if (open.size === 0) openOf.delete(network);
    });
    onAbuse(socket, () => {
      const cutOffs = cutOffsOf.get(network) ?? {
        count: 0,
        forget: setTimeout(() => cutOffsOf.delete(network), shutOutMs).unref(),
      };
      cutOffs.count += 1;
      cutOffsOf.set(network, cutOffs);
      if (cutOffs.count < cutOffsOfNetwork) return;
      cutOffs.forget.refresh();
      for (const one of open) one.destroy();
    });
  });
}

interface Slot {
  network: string;
  /** When it was taken, by a monotonic clock, ms. */
  since: number;
  /** Closes the connection. */
  drop: () => void;
}

/**
 * Takes a slot for a network. Returns the function that gives it back, or null when the network, or the server as a
 * whole, has none left.
 */
type Take = (network: string, drop: () => void) => (() => void) | null;

/**
 * Limits how many slots are taken. When none is left, the oldest one makes way if it was taken more than `patienceMs`
 * ago: a real request arrives within milliseconds, so slow ones cannot keep it out.
 */
function createShares({ ofNetwork, inAll }: Shares, patienceMs: number): Take {
  // The oldest comes first.
  const taken = new Set<Slot>();
  const takenBy = new Map<string, number>();

  function giveBack(slot: Slot): void {
    if (!taken.delete(slot)) return;
    const left = (takenBy.get(slot.network) ?? 1) - 1;
    if (left === 0) takenBy.delete(slot.network);
    else takenBy.set(slot.network, left);
  }

  return (network, drop) => {
    const now = performance.now();
    const isOutOfItsOwn = (takenBy.get(network) ?? 0) >= ofNetwork;
    if (isOutOfItsOwn || taken.size >= inAll) {
      const oldest = [...taken].find((slot) => !isOutOfItsOwn || slot.network === network);
      if (!oldest || now - oldest.since < patienceMs) return null;
      giveBack(oldest);
      oldest.drop();
    }
    const slot = { network, since: now, drop };
    taken.add(slot);
    takenBy.set(network, (takenBy.get(network) ?? 0) + 1);
    return () => {
      giveBack(slot);
    };
  };
}
