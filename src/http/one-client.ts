import type { RequestListener, Server } from 'node:http';
import type { Socket } from 'node:net';

import type { FastifyInstance } from 'fastify';

import type { Bounds } from './bounds.ts';
import { BUSY, HttpError } from './errors.ts';
import { networkOf } from './network.ts';

const TOO_MANY_AT_ONCE = new HttpError(
  503,
  BUSY,
  'Too many requests are being sent from this network at once. Please try again in a moment.',
);

/**
 * Bounds what one client can take from all others.
 *
 * @param app the whole server, before any hook that costs something
 * @param bounds how much it takes on
 * @param behindProxy all connections come from a proxy, so they are not counted by address
 */
export function boundOneClient(app: FastifyInstance, bounds: Bounds, behindProxy: boolean): void {
  boundPipelines(app.server, bounds.pipelined);
  if (behindProxy) boundBodies(app, bounds.connectionsOfAddress);
  else boundConnections(app.server, bounds.connectionsOfAddress);
}

/** Bounds the requests of one client that are not all here yet: each of them holds one of our connections. */
function boundBodies(app: FastifyInstance, most: number): void {
  const take = createShares(most);

  app.addHook('onRequest', function boundBodiesOfClient({ raw, ip }, reply, done) {
    const { 'content-length': length, 'transfer-encoding': encoding } = raw.headers;
    if (length === undefined && encoding === undefined) {
      done();
      return;
    }
    const giveBack = take(ip);
    if (giveBack) {
      // The body is all here, or never will be.
      raw.once('close', giveBack);
      done();
      return;
    }
    // Otherwise the connection would stay open for the rest of the body.
    void reply.header('connection', 'close');
    done(TOO_MANY_AT_ONCE);
  });
}

/**
 * Closes a connection on which too many requests wait for the answer to an earlier one. Node reads 64 KiB at a time and hands
 * over every request in it: a client could ask for thousands of pages at once and read none of them, and all would be made
 * and held.
 */
function boundPipelines(server: Server, most: number): void {
  const waitingOn = new WeakMap<Socket, number>();
  // Fastify's own: what is refused must not reach it.
  const [serve] = server.listeners('request') as RequestListener[];
  server.removeAllListeners('request');

  server.on('request', (request, response) => {
    const { socket } = request;
    // A response has no connection until the one before it is sent.
    if (response.socket === null) {
      const waiting = waitingOn.get(socket) ?? 0;
      // Node goes on handing over the rest of what it has read.
      if (waiting >= most) socket.destroy();
      if (socket.destroyed) return;
      waitingOn.set(socket, waiting + 1);
      response.once('close', () => waitingOn.set(socket, (waitingOn.get(socket) ?? 1) - 1));
    }
    serve?.(request, response);
  });
}

function boundConnections(server: Server, most: number): void {
  const take = createShares(most);
  server.on('connection', (socket: Socket) => {
    const giveBack = take(socket.remoteAddress);
    if (giveBack) socket.once('close', giveBack);
    else socket.destroy();
  });
}

/** Takes one for an address; null when its network has all that it may have, else what gives it back. */
type Take = (address: string | undefined) => (() => void) | null;

function createShares(most: number): Take {
  const takenBy = new Map<string, number>();
  return (address = '') => {
    const network = networkOf(address);
    const taken = takenBy.get(network) ?? 0;
    if (taken >= most) return null;
    takenBy.set(network, taken + 1);
    return () => {
      const left = (takenBy.get(network) ?? 1) - 1;
      if (left === 0) takenBy.delete(network);
      else takenBy.set(network, left);
    };
  };
}
