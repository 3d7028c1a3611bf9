import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';

import type { Bounds } from './bounds.ts';
import { onAbuse } from './cut-off.ts';
import { homeOf, networkOf, siteOf } from './network.ts';
import { wasSentInFull } from './when-answered.ts';

/** Of one site, this many times the cut-offs of a network are allowed. */
const CUT_OFFS_OF_SITE = 5;

/**
 * Limits the connections of each network, of each site and in total, on a server without a proxy in front. When there
 * is no room for a new connection, one is closed:
 * 1. The oldest of the site that has the most, if it has more than its share: an equal part of all, but at least one. If
 *    the newcomer's own site is among those with the most, its oldest makes way. A connection whose request is complete
 *    and not being answered yet is kept. If the chosen site has no other kind, its youngest makes way, but only for a
 *    newcomer from another site.
 * 2. Otherwise the oldest of all that is not waiting for an answer or receiving one (it has sent no request, its request is
 *    incomplete, or the answer is sent), if it is older than `patienceMs`.
 *
 * A network is shut out for a while, and loses all its connections, after too many of them had to be cut off. Cutting
 * them off is not enough: by then, Node has handed over the 64 KiB that it read from each. The same happens when it
 * keeps opening connections beyond its limit, or keeps closing them (or letting them time out) between a request's
 * headers and the end of its answer, or closes them at once without a request: Node accepts one connection per turn of
 * the event loop, so all of these make others wait. The same happens to a home and to a site (`countByClient`) at several
 * times these numbers. Newcomers beyond a site's own limit are not counted: they can all be of one home.
 */
export function boundConnections(server: Server, bounds: Bounds): void {
  const { connections, connectionsOfNetwork, connectionsOfSite, patienceMs, shutOutMs } = bounds;
  /** When each was opened, by a monotonic clock, ms. The oldest comes first, here and in the next two. */
  const opened = new Map<Socket, number>();
  const ofNetworks = new Map<string, Set<Socket>>();
  const ofSites = new Map<string, Set<Socket>>();
  const answerOn = watchAnswers(server);
  // Only abuse is cut off, so homes that share a site do not use up its limit.
  const cutOffs = countByClient(bounds.cutOffsOfNetwork, shutOutMs, CUT_OFFS_OF_SITE);
  const refusals = countByClient(bounds.refusalsOfNetwork, shutOutMs);
  const abandoned = countByClient(bounds.abandonedOfNetwork, shutOutMs);

  function ofLargestSite(newcomer: string): Socket | undefined {
    const own = ofSites.get(newcomer) ?? new Set<Socket>();
    let largest = own;
    const sites = ofSites.size + (ofSites.has(newcomer) ? 0 : 1);
    for (const open of ofSites.values()) if (open.size > largest.size) largest = open;
    if (largest.size <= Math.max(1, connections / sites)) return undefined;
    const open = [...largest];
    const oldest = open.find((socket) => answerOn(socket) !== 'waiting');
    // The youngest has waited least, so hardly any work on its request is lost.
    return oldest ?? (largest === own ? undefined : open.at(-1));
  }

  function oldestOfAll(): Socket | undefined {
    const now = performance.now();
    for (const [socket, since] of opened) {
      if (now - since < patienceMs) return undefined;
      const answer = answerOn(socket);
      if (answer !== 'waiting' && answer !== 'sending') return socket;
    }
    return undefined;
  }

  /** Whether there is room for one more connection of a site, if need be after closing another one. */
  function makeRoom(site: string): boolean {
    if (opened.size < connections) return true;
    const socket = ofLargestSite(site) ?? oldestOfAll();
    if (!socket) return false;
    opened.delete(socket);
    socket.destroy();
    return true;
  }

  /** Whether a connection was closed before its answer was sent, or within `patienceMs` without having sent a request. */
  function isAbandoned(socket: Socket, since: number): boolean {
    const answer = answerOn(socket);
    // Browsers open connections that they may not need, but keep them for a while.
    return answer === null ? performance.now() - since < patienceMs : answer !== 'sent';
  }

  function isShutOut(address: string): boolean {
    return [cutOffs, refusals, abandoned].some((counted) => counted.isReached(address));
  }

  server.on('connection', (socket: Socket) => {
    const address = socket.remoteAddress ?? '';
    const [network, site] = [networkOf(address), siteOf(address)];
    const ofNetwork = ofNetworks.get(network) ?? new Set();
    const ofSite = ofSites.get(site) ?? new Set();
    const shutOutIfReached = (): void => {
      if (!isShutOut(address)) return;
      for (const one of ofSite) {
        if (!isShutOut(one.remoteAddress ?? '')) continue;
        opened.delete(one);
        one.destroy();
      }
    };
    const hasTooMany = ofNetwork.size >= connectionsOfNetwork;
    const hasSiteTooMany = ofSite.size >= connectionsOfSite;
    if (isShutOut(address) || hasTooMany || hasSiteTooMany || !makeRoom(site)) {
      socket.destroy();
      if (hasTooMany) {
        refusals.count(address);
        shutOutIfReached();
      }
      return;
    }
    const since = performance.now();
    opened.set(socket, since);
    ofNetworks.set(network, ofNetwork.add(socket));
    ofSites.set(site, ofSite.add(socket));
    socket.once('close', () => {
      // If we closed it here, to make room or because its network is shut out, that is not its network's doing.
      const closedByUs = !opened.delete(socket);
      ofNetwork.delete(socket);
      ofSite.delete(socket);
      if (ofNetwork.size === 0) ofNetworks.delete(network);
      if (ofSite.size === 0) ofSites.delete(site);
      if (!closedByUs && isAbandoned(socket, since)) {
        abandoned.count(address);
        shutOutIfReached();
      }
    });
    onAbuse(socket, () => {
      cutOffs.count(address);
      shutOutIfReached();
    });
  });
}

/**
 * How far the exchange on a connection has come; null before its first request. `arriving`: the body is incomplete, and
 * nothing is answered yet.
 */
type AnswerOn = (socket: Socket) => 'arriving' | 'waiting' | 'sending' | 'sent' | null;

function watchAnswers(server: Server): AnswerOn {
  const exchanges = new WeakMap<Socket, { request: IncomingMessage; response: ServerResponse }>();
  const sent = new WeakSet<ServerResponse>();
  server.on('request', (request: IncomingMessage, response: ServerResponse) => {
    response.once('finish', () => {
      if (wasSentInFull(request)) sent.add(response);
    });
    // A pipelined request is refused.
    if (response.socket !== null) exchanges.set(request.socket, { request, response });
  });
  return (socket) => {
    const exchange = exchanges.get(socket);
    if (!exchange) return null;
    const { request, response } = exchange;
    if (sent.has(response)) return 'sent';
    if (response.headersSent) return 'sending';
    return request.complete ? 'waiting' : 'arriving';
  };
}

interface Count {
  count: (key: string) => void;
  isReached: (key: string) => boolean;
}

/**
 * Counts something of each client's network and, for IPv6, of its home (`homeOf`) and its site (`siteOf`). These may
 * reach 3 and, unless told otherwise, 30 times the limit of one network, so that one home does not use up the limit of a
 * site that it shares with others.
 */
export function countByClient(limit: number, forMs: number, timesForSite = 30): Count {
  const ofNetwork = countByKey(limit, forMs);
  const ofHome = countByKey(3 * limit, forMs);
  const ofSite = countByKey(timesForSite * limit, forMs);
  return {
    count(address) {
      ofNetwork.count(networkOf(address));
      ofHome.count(homeOf(address));
      ofSite.count(siteOf(address));
    },
    isReached: (address) =>
      ofNetwork.isReached(networkOf(address)) ||
      ofHome.isReached(homeOf(address)) ||
      ofSite.isReached(siteOf(address)),
  };
}

/**
 * Counts something of each key in a span of `forMs` from the first one. The one that reaches the limit, and each one
 * after it, begins the span anew.
 */
function countByKey(limit: number, forMs: number): Count {
  const counts = new Map<string, { count: number; forget: NodeJS.Timeout }>();
  return {
    count(key) {
      const counted = counts.get(key) ?? {
        count: 0,
        forget: setTimeout(() => counts.delete(key), forMs).unref(),
      };
      counted.count += 1;
      counts.set(key, counted);
      if (counted.count >= limit) counted.forget.refresh();
    },
    isReached: (key) => (counts.get(key)?.count ?? 0) >= limit,
  };
}
