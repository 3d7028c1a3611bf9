import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';

import type { Bounds } from './bounds.ts';
import { onAbuse } from './cut-off.ts';
import { networkOf } from './network.ts';

/**
 * Limits the connections of each network and of all, on a server without a proxy in front. When there is no room for a
 * new connection, one is closed:
 * 1. The oldest of the network that has most, if it has more than its share: an equal part of all, but at least one. Of
 *    two networks with as many, the newcomer's comes first. A connection with a complete request whose answer has not
 *    begun stays.
 * 2. Otherwise the oldest of all without a request under way (none is complete, or its answer is sent), if it is older
 *    than `patienceMs`.
 *
 * A network is refused for a while after too many of its connections had to be cut off (see `createShutOuts`).
 */
export function boundConnections(server: Server, bounds: Bounds): void {
  const { connections, connectionsOfNetwork, patienceMs } = bounds;
  /** When each was opened, by a monotonic clock, ms. The oldest comes first, here and in `openOf`. */
  const opened = new Map<Socket, number>();
  const openOf = new Map<string, Set<Socket>>();
  const answerOn = watchAnswers(server);
  const shutOuts = createShutOuts(bounds);

  function ofLargestNetwork(newcomer: string): Socket | undefined {
    let largest = openOf.get(newcomer) ?? new Set<Socket>();
    const networks = openOf.size + (openOf.has(newcomer) ? 0 : 1);
    for (const open of openOf.values()) if (open.size > largest.size) largest = open;
    if (largest.size <= Math.max(1, connections / networks)) return undefined;
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

  server.on('connection', (socket: Socket) => {
    const network = networkOf(socket.remoteAddress ?? '');
    const open = openOf.get(network) ?? new Set();
    if (shutOuts.has(network) || open.size >= connectionsOfNetwork || !makeRoom(network)) {
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
      shutOuts.count(network);
      if (shutOuts.has(network)) for (const one of open) one.destroy();
    });
  });
}

/** How far the answer on a connection has come; null while it has no complete request. */
type AnswerOn = (socket: Socket) => 'awaited' | 'being read' | 'sent' | null;

function watchAnswers(server: Server): AnswerOn {
  const exchanges = new WeakMap<Socket, { request: IncomingMessage; response: ServerResponse }>();
  server.on('request', (request: IncomingMessage, response: ServerResponse) => {
    const begin = (): void => {
      exchanges.set(request.socket, { request, response });
    };
    // A pipelined request begins when the answer before it is sent.
    if (response.socket === null) response.once('socket', begin);
    else begin();
  });
  return (socket) => {
    const exchange = exchanges.get(socket);
    if (!exchange?.request.complete) return null;
    if (exchange.response.writableFinished) return 'sent';
    return exchange.response.headersSent ? 'being read' : 'awaited';
  };
}

/**
 * The networks of which too many connections had to be cut off. They are refused for a while: by the time we cut a
 * connection off, Node has already handed over the 64 KiB that it read.
 */
function createShutOuts({ cutOffsOfNetwork, shutOutMs }: Bounds): {
  count: (network: string) => void;
  has: (network: string) => boolean;
} {
  const cutOffsOf = new Map<string, { count: number; forget: NodeJS.Timeout }>();
  return {
    count(network) {
      const cutOffs = cutOffsOf.get(network) ?? {
        count: 0,
        forget: setTimeout(() => cutOffsOf.delete(network), shutOutMs).unref(),
      };
      cutOffs.count += 1;
      cutOffsOf.set(network, cutOffs);
      if (cutOffs.count >= cutOffsOfNetwork) cutOffs.forget.refresh();
    },
    has: (network) => (cutOffsOf.get(network)?.count ?? 0) >= cutOffsOfNetwork,
  };
}
