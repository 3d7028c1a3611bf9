import type { Socket } from 'node:net';

import type { FastifyInstance } from 'fastify';

import type { Bounds } from './bounds.ts';
import { BUSY, HttpError } from './errors.ts';
import { createFairQueue } from './fair-queue.ts';
import { siteOf } from './network.ts';
import { WEBHOOK_PATH } from './webhook-path.ts';
import { hasLeft, whenAnswered } from './when-answered.ts';

const TOO_MANY_WAITING = new HttpError(
  503,
  BUSY,
  'Too many requests from your network are waiting. Please try again in a moment.',
);

/**
 * Limits how many requests are under way, in all and of one site. Further ones wait, and sites take turns; when too many of a
 * site wait, they are refused. Files, compression and PostgreSQL's answers are work outside the share of a turn
 * (see `createTurns`). With hundreds of requests under way, a turn would take so long that a new connection of somebody else
 * waits for seconds.
 *
 * A request counts for at most `patienceMs`, so that neither a body that arrives slowly nor an answer that is read slowly
 * holds up others. Webhooks do not count, because Stripe's events come in bursts. Requests that ask for the state of the
 * server (EVEN_UNDER_PRESSURE) are counted separately, so that other requests cannot keep them waiting.
 */
export function boundRequestsUnderWay(app: FastifyInstance, { requests, patienceMs }: Bounds): void {
  const places = { state: createPlaces(requests), others: createPlaces(requests) };

  app.addHook('onRequest', function waitForPlace(request, reply, done) {
    const { url, config } = request.routeOptions;
    if (url?.startsWith(WEBHOOK_PATH)) {
      done();
      return;
    }
    const take = 'pressureHandler' in config ? places.state : places.others;
    const isTaken = take({
      site: siteOf(request.ip),
      socket: request.raw.socket,
      begin: (end) => {
        const patience = setTimeout(end, patienceMs).unref();
        whenAnswered(request, reply, () => {
          clearTimeout(patience);
          end();
        });
        done();
      },
    });
    if (!isTaken) done(TOO_MANY_WAITING);
  });
}

interface Arrived {
  site: string;
  socket: Socket;
  /** @param end gives the place back; calling it again does nothing */
  begin: (end: () => void) => void;
}

/**
 * Returns a function that begins a request, now or when there is a place for it. It returns false, and begins nothing, when
 * too many of its site wait.
 */
function createPlaces({ ofSite, inAll, waitingOfSite }: Bounds['requests']): (request: Arrived) => boolean {
  const underWayOf = new Map<string, number>();
  const waiting = createFairQueue<Arrived>();
  let underWay = 0;

  const hasPlace = (site: string): boolean => underWay < inAll && (underWayOf.get(site) ?? 0) < ofSite;

  function count(site: string, change: 1 | -1): void {
    underWay += change;
    const left = (underWayOf.get(site) ?? 0) + change;
    if (left === 0) underWayOf.delete(site);
    else underWayOf.set(site, left);
  }

  function begin({ site, begin: start }: Arrived): void {
    count(site, 1);
    let hasEnded = false;
    start(() => {
      if (hasEnded) return;
      hasEnded = true;
      count(site, -1);
      beginNext();
    });
  }

  /** Begins the next waiting request whose client has not left. */
  function beginNext(): void {
    for (let next = waiting.shift(hasPlace); next; next = waiting.shift(hasPlace)) {
      if (hasLeft(next.socket)) continue;
      begin(next);
      return;
    }
  }

  return (request) => {
    const { site } = request;
    if (hasPlace(site)) begin(request);
    else if (waiting.waitingOf(site) >= waitingOfSite) return false;
    else waiting.push(site, request);
    return true;
  };
}
