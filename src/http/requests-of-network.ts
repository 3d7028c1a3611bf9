import type { Socket } from 'node:net';

import type { FastifyInstance } from 'fastify';

import type { Bounds } from './bounds.ts';
import { BUSY, HttpError } from './errors.ts';
import { networkOf } from './network.ts';
import { WEBHOOK_PATH } from './webhook-path.ts';
import { hasLeft, whenAnswered } from './when-answered.ts';

const TOO_MANY_WAITING = new HttpError(
  503,
  BUSY,
  'Too many requests from your network are waiting. Please try again in a moment.',
);

interface Network {
  underWay: number;
  /** The oldest first. */
  waiting: { begin: () => void; socket: Socket }[];
}

/**
 * Limits how many requests of one network are under way; further ones wait, or are refused when too many do. Files,
 * compression and PostgreSQL's answers are work outside the share of a turn (see `createTurns`). With hundreds of
 * requests under way, a turn would take so long that a new connection of somebody else waits for seconds.
 *
 * A request counts for at most `patienceMs`, so that neither a body that arrives slowly nor an answer that is read slowly
 * holds up the rest of the network. Webhooks do not count, because Stripe's events come in bursts. Requests that ask for
 * the state of the server (EVEN_UNDER_PRESSURE) are counted separately, so that other requests cannot keep them waiting.
 */
export function boundRequestsOfNetworks(app: FastifyInstance, { requests, patienceMs }: Bounds): void {
  const networks = new Map<string, Network>();

  app.addHook('onRequest', function boundRequestsOfNetwork(request, reply, done) {
    const { url, config } = request.routeOptions;
    if (url?.startsWith(WEBHOOK_PATH)) {
      done();
      return;
    }
    const key = ('pressureHandler' in config ? 'state ' : '') + networkOf(request.ip);
    const network = networks.get(key) ?? { underWay: 0, waiting: [] };
    networks.set(key, network);

    const begin = (): void => {
      network.underWay += 1;
      let isCounted = true;
      const end = (): void => {
        if (!isCounted) return;
        isCounted = false;
        clearTimeout(patience);
        network.underWay -= 1;
        beginNext(network);
        if (network.underWay === 0) networks.delete(key);
      };
      const patience = setTimeout(end, patienceMs).unref();
      whenAnswered(request, reply, end);
      done();
    };
    if (network.underWay < requests.underWay) begin();
    else if (network.waiting.length < requests.waiting)
      network.waiting.push({ begin, socket: request.raw.socket });
    else done(TOO_MANY_WAITING);
  });
}

/** Begins the oldest waiting request whose client has not left. */
function beginNext({ waiting }: Network): void {
  for (let next = waiting.shift(); next; next = waiting.shift()) {
    if (hasLeft(next.socket)) continue;
    next.begin();
    return;
  }
}
