import type { Socket } from 'node:net';

import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';

import type { Bounds } from './bounds.ts';
import { BUSY, HttpError } from './errors.ts';
import { createFairQueue } from './fair-queue.ts';
import { siteOf } from './network.ts';
import { hasBody, readsOnly } from './read-body.ts';
import { isWebhook } from './webhook-path.ts';
import { hasLeft, whenAnswered } from './when-answered.ts';

const TOO_MANY_HASHING = new HttpError(
  503,
  BUSY,
  'Too many people are logging in or signing up right now. Please try again in a moment.',
);

const TOO_MANY_WAITING = new HttpError(
  503,
  BUSY,
  'Too many requests from your network are waiting. Please try again in a moment.',
);

/**
 * Limits how many requests of one site are under way, and how many in all. Further ones wait, and sites take turns.
 * Once too many of a site wait, more are refused. `createTurns` limits how many begin, not the work that follows:
 * files, compression, PostgreSQL's answers. With hundreds of requests under way, a turn of the event loop would take so
 * long that a new client would wait for seconds.
 *
 * A request counts for at most `patienceMs`, and for `sendingMs` once its answer is being sent, so that neither a body
 * that arrives slowly nor an answer that is read slowly holds up others. After a wait to hash a password
 * (`boundHashing`), the time begins anew. Webhooks do not count, because Stripe's events come in bursts. Requests that ask
 * for the state of the server (EVEN_UNDER_PRESSURE) are counted separately, so that other requests cannot keep them waiting.
 *
 * For all sites together, there are two sets of places: one for requests that read and one for those that change something.
 * Without them, a few sites could fill the queue for connections to PostgreSQL, where sites do not take turns. A request
 * with a body, or one that hashes a password, takes a place among those that read while its visitor is looked up, and gives
 * it back before its body is read (`giveBackBeforeWait`). Once the body has arrived, it takes a place among those that
 * change something, or one to hash a password. The places of those that change something are held only briefly, because
 * such a request can wait for Stripe.
 *
 * Once a body has arrived (`waitAfterBody`), a request waits again for a turn, and first for a place of its site if its own
 * has timed out. Otherwise a few clients could complete thousands of bodies at once, and everybody else would wait for all
 * of them.
 */
export function boundRequestsUnderWay(app: FastifyInstance, bounds: Bounds, takeTurn: TakeTurn): void {
  const { ofSite, inAll, changing, waitingOfSite } = bounds.requests;
  const createAll = () => ({
    ofSite: createPlaces({ ofSite, waitingOfSite }),
    reading: createPlaces({ inAll }),
    changing: createPlaces({ inAll: changing.inAll }),
  });
  const places = { state: createAll(), others: createAll() };

  function wait(
    which: Exclude<Which, 'hashing'>,
    request: FastifyRequest,
    reply: FastifyReply,
    done: Done,
  ): void {
    const kind = request.routeOptions.config.reportsState ? 'state' : 'others';
    if (isWebhook(request)) done();
    else {
      const patienceMs = which === 'changing' ? changing.forMs : bounds.patienceMs;
      const take = places[kind][which];
      const goesOn = which === 'changing';
      waitFor({ which, take, refusal: TOO_MANY_WAITING, patienceMs, goesOn }, request, reply, done);
    }
  }

  app.addHook('onRequest', function waitForPlaceOfSite(request, reply, done) {
    wait('ofSite', request, reply, done);
  });
  app.addHook('onRequest', function waitForPlace(request, reply, done) {
    const { raw, routeOptions } = request;
    const onlyReads = readsOnly(raw) || hasBody(raw) || routeOptions.config.hashesPassword === true;
    wait(onlyReads ? 'reading' : 'changing', request, reply, done);
  });
  app.addHook('onSend', function giveBackPlacesSoon(request, reply, _payload, done) {
    const { socket } = request.raw;
    const giveBack = (): void => {
      clearTimeout(timer);
      for (const place of placesOf.get(request) ?? []) place.giveBack();
    };
    const timer = setTimeout(() => {
      // The hooks that follow can take a while: they query the database and compress the answer.
      if (reply.raw.headersSent || socket.destroyed) giveBack();
      else timer.refresh();
    }, bounds.sendingMs).unref();
    whenAnswered(request, reply, giveBack);
    done();
  });
  app.decorate('giveBackBeforeWait', (request: FastifyRequest) => {
    const held = placesOf.get(request) ?? [];
    for (const place of held) if (place.which === 'reading') place.giveBack();
    placesOf.set(
      request,
      held.filter(({ which }) => which !== 'reading'),
    );
  });
  app.decorate('waitAfterBody', (request: FastifyRequest, reply: FastifyReply) => {
    return new Promise<void>((resolve, reject) => {
      const begin = (error?: Error): void => {
        if (error) reject(error);
        else takeTurn(request, resolve);
      };
      const change = (error?: Error): void => {
        if (error) reject(error);
        else if (request.routeOptions.config.hashesPassword) begin();
        else wait('changing', request, reply, begin);
      };
      if (placesOf.get(request)?.some((place) => place.isOver())) wait('ofSite', request, reply, change);
      else change();
    });
  });
}

/** The options of a route that hashes or compares a password. */
export const HASHES_PASSWORD = { config: { hashesPassword: true } };

/**
 * Limits how many requests that hash a password are under way, once their bodies have arrived. Further ones wait, and
 * sites take turns. When too many wait, the newest of the site that has the most is refused. Hashes themselves wait for
 * a thread in the order in which they come, so a few addresses could otherwise keep everybody else from logging in.
 *
 * While it waits, a request keeps its place among those of its site (`waitFor`). The site's next ones wait behind it,
 * which costs less than refusing them, because clients that are refused come back at once.
 */
export function boundHashing(
  app: FastifyInstance,
  { hashing, patienceMs }: Bounds,
  takeTurn: TakeTurn,
): void {
  const take = createPlaces(hashing);
  app.addHook('preHandler', function waitToHash(request, reply, done) {
    if (!request.routeOptions.config.hashesPassword) {
      done();
      return;
    }
    const kind = { which: 'hashing', take, refusal: TOO_MANY_HASHING, patienceMs, goesOn: true } as const;
    waitFor(kind, request, reply, (error) => {
      // Otherwise, many requests that end at the same instant would let as many begin in one turn.
      if (error) done(error);
      else takeTurn(request, done);
    });
  });
}

/**
 * Takes a place, now or later, and gives it back once the request is answered, or has taken `patienceMs`. While a
 * request waits, it keeps the places that it has, unless it gave them back already.
 *
 * @param kind `goesOn`: its work goes on when its client leaves, so the place is then kept until the work is done, or
 *   for the rest of `patienceMs`
 */
function waitFor(
  kind: { which: Which; take: TakePlace; refusal: HttpError; patienceMs: number; goesOn?: boolean },
  request: FastifyRequest,
  reply: FastifyReply,
  done: Done,
): void {
  const { which, take, refusal, patienceMs, goesOn = false } = kind;
  const held = placesOf.get(request) ?? [];
  for (const place of held) place.keep();
  const proceed = (error?: HttpError): void => {
    for (const place of held) place.limit();
    done(error);
  };
  const refuse = (): void => {
    proceed(refusal);
  };
  const isTaken = take({
    site: siteOf(request.ip),
    socket: request.raw.socket,
    refuse,
    begin: (end) => {
      let isOver = false;
      const giveBack = (): void => {
        clearTimeout(timer);
        isOver = true;
        end();
      };
      let timer = setTimeout(giveBack, patienceMs).unref();
      const keep = (): void => {
        clearTimeout(timer);
      };
      const limit = (): void => {
        keep();
        timer = setTimeout(giveBack, patienceMs).unref();
      };
      whenAnswered(request, reply, (wasSent) => {
        if (wasSent || !goesOn) giveBack();
      });
      placesOf.set(request, [...held, { which, keep, limit, giveBack, isOver: () => isOver }]);
      proceed();
    },
  });
  if (!isTaken) refuse();
}

type Done = (error?: Error) => void;

/** Calls `done` when it is the request's turn (`createTurns`), or `left` if its client has left by then. */
export type TakeTurn = (request: FastifyRequest, done: () => void, left?: () => void) => void;

type Which = 'ofSite' | 'reading' | 'changing' | 'hashing';

/** A place that was taken. */
interface Place {
  which: Which;
  /** Keeps it until the request is answered, unless it was given back already. */
  keep: () => void;
  /** Gives it back in `patienceMs`, unless the request is answered first. */
  limit: () => void;
  giveBack: () => void;
  isOver: () => boolean;
}

const placesOf = new WeakMap<FastifyRequest, Place[]>();

interface Arrived {
  site: string;
  socket: Socket;
  /** @param end gives the place back; calling it again does nothing */
  begin: (end: () => void) => void;
  refuse: () => void;
}

/** Maximum numbers; none where omitted. */
interface MostAtOnce {
  ofSite?: number;
  inAll?: number;
  waitingOfSite?: number;
  waitingInAll?: number;
}

/**
 * Begins a request, now or when there is a place for it. Returns false, and begins nothing, when too many of its site
 * wait. When too many wait in all, the newest of the site with the most is refused instead. If that site would then
 * have fewer waiting than this request's site, this request is refused instead, and the result is false.
 */
type TakePlace = (request: Arrived) => boolean;

function createPlaces({
  ofSite = Infinity,
  inAll = Infinity,
  waitingOfSite = Infinity,
  waitingInAll = Infinity,
}: MostAtOnce): TakePlace {
  const underWayOf = new Map<string, number>();
  const waiting = createFairQueue<Arrived>();
  let underWay = 0;

  const mayBegin = ({ site }: Arrived): boolean => underWay < inAll && (underWayOf.get(site) ?? 0) < ofSite;

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
    for (let next = waiting.shift(mayBegin); next; next = waiting.shift(mayBegin)) {
      if (hasLeft(next.socket)) continue;
      begin(next);
      return;
    }
  }

  return (request) => {
    const { site } = request;
    if (mayBegin(request)) {
      begin(request);
      return true;
    }
    const own = waiting.waitingOf(site);
    if (own >= waitingOfSite) return false;
    if (waiting.size() >= waitingInAll) {
      const refused = waiting.popOfLargest(own + 1);
      if (!refused) return false;
      refused.refuse();
    }
    waiting.push(site, request);
    return true;
  };
}

declare module 'fastify' {
  interface FastifyInstance {
    /** Gives back the request's place among those that read, because its body, or Stripe's answer, may take a long time. */
    giveBackBeforeWait: (request: FastifyRequest) => void;
    waitAfterBody: (request: FastifyRequest, reply: FastifyReply) => Promise<void>;
  }
  interface FastifyContextConfig {
    /** The route hashes or compares a password. */
    hashesPassword?: boolean;
    /** The route reports the server's state. */
    reportsState?: boolean;
  }
}
