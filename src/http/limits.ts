import { setTimeout as sleep } from 'node:timers/promises';

import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { RateLimiterMemory, RateLimiterPrisma, RateLimiterRes } from 'rate-limiter-flexible';
import type { RateLimiterAbstract } from 'rate-limiter-flexible';

import { hashToken } from '../accounts/tokens.ts';
import { isPostgresql } from '../db/open.ts';
import { DAY_SECONDS } from '../instants.ts';
import type { AppContext } from './context.ts';
import { HttpError } from './errors.ts';
import { homeOf, networkOf, siteOf } from './network.ts';

/** Default window of a limit. It begins with the first try. */
const WINDOW_SECONDS = 10 * 60;

/**
 * Tries allowed in one window. A network is an IPv4 address or an IPv6 /64 (`networkOf`). Every limit by network has
 * wider ones for IPv6: by the /48 (`siteOf`), because one customer can have all its 65,536 networks, and by the /56
 * (`homeOf`), so that one home cannot use up the limits of a /48 that it shares with others.
 */
const LIMITS = {
  failedLogInsOfNetwork: 10,
  failedLogInsOfHome: 30,
  failedLogInsOfSite: 300,
  failedLogInsOfAccount: 50,
  signUpsOfNetwork: 30,
  signUpsOfHome: 90,
  signUpsOfSite: 900,
  resetsOfNetwork: 30,
  resetsOfHome: 90,
  resetsOfSite: 900,
  forgottenOfNetwork: 30,
  forgottenOfHome: 90,
  forgottenOfSite: 900,
  proofsOfNetwork: 30,
  proofsOfHome: 90,
  proofsOfSite: 900,
  addressChangesOfAccount: 10,
  // Only those that are not refused: each former address that was proven is kept, and compared in later conversions.
  addressesADayOfAccount: 20,
  // Each one sends the account's owner an email.
  passwordChangesOfAccount: 10,
  checkoutsOfAccount: 20,
  portalsOfAccount: 20,
  deletionsOfAccount: 20,
  proofMailsOfAccount: 20,
  mailSettingsOfAccount: 60,
  logOutsElsewhereOfAccount: 60,
  // Without JavaScript, a page that waits for a payment reloads 40 times.
  paymentChecksOfAccount: 100,
  paymentChecksOfNetwork: 100,
  paymentChecksOfHome: 200,
  paymentChecksOfSite: 1_000,
  // Checkouts and portals together. Stripe's rate limit is shared by all accounts, and one person can have many.
  stripeVisitsOfNetwork: 100,
  stripeVisitsOfHome: 200,
  stripeVisitsOfSite: 1_000,
  exportsOfAccount: 5,
  backupsOfAccount: 120,
  unknownPathsOfNetwork: 300,
  unknownPathsOfHome: 900,
  unknownPathsOfSite: 9_000,
  // Counted per spelling. Otherwise, a stranger could use up the owner's links with another +tag.
  resetMailsOfAddress: 5,
} as const;

const OTHER_WINDOW_SECONDS: Readonly<Partial<Record<LimitName, number>>> = {
  addressesADayOfAccount: DAY_SECONDS,
  resetMailsOfAddress: 60 * 60,
};

type LimitName = keyof typeof LIMITS;

/**
 * These count as visits to Stripe by network as well. A deletion does not: it asks Stripe only after the right
 * password.
 */
const VISIT_STRIPE: ReadonlySet<LimitName> = new Set(['checkoutsOfAccount', 'portalsOfAccount']);

type OfNetwork = LimitName & `${string}OfNetwork`;

/** What the limits by network count. `limitsOf` needs each of them for a home and a site, too. */
type What = OfNetwork extends `${infer Name}OfNetwork` ? Name : never;

/** Limits whose points can be given back. */
const GIVEN_BACK: ReadonlySet<LimitName> = new Set([
  'failedLogInsOfNetwork',
  'failedLogInsOfHome',
  'failedLogInsOfSite',
  'failedLogInsOfAccount',
  'addressesADayOfAccount',
  'exportsOfAccount',
  'passwordChangesOfAccount',
  'resetMailsOfAddress',
]);

/**
 * Give no point back this close to the end of a window, ms: one that arrives after the end would allow an extra try in
 * the next window. This is longer than a statement can wait for a lock.
 */
const TOO_LATE_MS = 30_000;

/** What a form says when its limit is reached. */
export const TOO_MANY_ATTEMPTS = 'Too many attempts. Wait ten minutes, then try again.';

/** The state of a limit for one key, after a look or a try. */
interface Taken {
  /** After a try: whether it got a point. After a look: whether a try would. */
  isLeft: boolean;
  /** When the window ends, ms since 1970. */
  endsAt: number;
}

interface Limit {
  /** Whether a point is left, without taking it. */
  look: (key: string) => Promise<Taken>;
  take: (key: string) => Promise<Taken>;
  /** @param endsAt of the taken point */
  giveBack: (key: string, endsAt: number) => Promise<void>;
  /** Forgets every try that was counted. */
  clear: (key: string) => Promise<void>;
}

type Limits = Readonly<Record<LimitName, Limit>>;

/**
 * Creates the limits as `request.server.limits`. On PostgreSQL all servers count in the database, and each
 * falls back to its own memory while the database is down. On SQLite there is one server and it counts in
 * memory.
 */
export function declareLimits(app: FastifyInstance, context: AppContext): void {
  const shared = isPostgresql(context.config.databaseUrl);
  const names = Object.keys(LIMITS) as LimitName[];
  const limits = Object.fromEntries(names.map((name) => [name, createLimit(context, name, shared)]));
  app.decorate('limits', limits as Limits);
  app.decorate('countInTurn', createInTurn());
  if (shared) deleteExpiredWindows(app, context);
}

function createLimit({ db, sessionSecret }: AppContext, name: LimitName, shared: boolean): Limit {
  const options = {
    points: LIMITS[name],
    duration: OTHER_WINDOW_SECONDS[name] ?? WINDOW_SECONDS,
    keyPrefix: name,
  };
  const inMemory = new RateLimiterMemory(options);
  const limiter: RateLimiterAbstract = shared
    ? new RateLimiterPrisma({
        ...options,
        storeClient: db,
        tableName: 'rateLimit',
        insuranceLimiter: inMemory,
        clearExpiredByTimeout: false,
        // Block in memory once a limit is reached, so that `take` costs no query (`look` does). Limits that can be
        // given back must always query.
        ...(!GIVEN_BACK.has(name) && { inMemoryBlockOnConsumed: LIMITS[name] + 1 }),
      })
    : inMemory;
  const inTurn = createInTurn();
  // Store hashes: email and network addresses are personal data, however briefly they are kept.
  const hashed = (key: string): string => hashToken(sessionSecret, key);
  return {
    look: async (key) => {
      const found = await limiter.get(hashed(key));
      const left = found?.remainingPoints ?? LIMITS[name];
      return { isLeft: left > 0, endsAt: Date.now() + (found?.msBeforeNext ?? 0) };
    },
    take: async (key) => {
      try {
        const { msBeforeNext } = await inTurn(key, () => limiter.consume(hashed(key)));
        return { isLeft: true, endsAt: Date.now() + msBeforeNext };
      } catch (refusal) {
        if (!(refusal instanceof RateLimiterRes)) throw refusal;
        return { isLeft: false, endsAt: Date.now() + refusal.msBeforeNext };
      }
    },
    giveBack: async (key, endsAt) => {
      await inTurn(key, async () => {
        if (Date.now() < endsAt - TOO_LATE_MS) await limiter.reward(hashed(key));
      });
    },
    clear: async (key) => {
      await limiter.delete(hashed(key));
    },
  };
}

/** Longest wait for the previous piece of work, ms. */
const LONGEST_TURN_MS = 2_000;

/** Runs one piece of work at a time for each key. */
type InTurn = <T>(key: string, work: () => Promise<T>) => Promise<T>;

/**
 * Counts of one row, and those of one site, wait for each other here. Otherwise, on PostgreSQL, each would hold a connection
 * of the pool while it waits for the row's lock, and everybody else would wait for a connection.
 */
function createInTurn(): InTurn {
  const last = new Map<string, Promise<unknown>>();
  return async (key, work) => {
    const before = last.get(key)?.catch(() => undefined);
    // Over a dead connection, a query may never settle.
    const begins = before && Promise.race([before, sleep(LONGEST_TURN_MS, undefined, { ref: false })]);
    const turn = (begins ?? Promise.resolve()).then(work);
    last.set(key, turn);
    try {
      return await turn;
    } finally {
      if (last.get(key) === turn) last.delete(key);
    }
  };
}

/** Deletes expired windows. Otherwise the table would grow with every address that ever tried. */
function deleteExpiredWindows(app: FastifyInstance, { db }: AppContext): void {
  const timer = setInterval(() => {
    db.rateLimit.deleteMany({ where: { expire: { lte: new Date() } } }).catch((error: unknown) => {
      app.log.warn({ err: error }, 'expired rate-limit windows could not be deleted');
    });
  }, WINDOW_SECONDS * 1000);
  timer.unref();
  app.addHook('onClose', (_app, done) => {
    clearInterval(timer);
    done();
  });
}

/**
 * Counts one try against a limit by network, and against the wider ones of IPv6. Returns false when none is left.
 *
 * @param reply gets Retry-After then; null when the request is answered all the same
 */
export async function takeForNetwork(
  request: FastifyRequest,
  reply: FastifyReply | null,
  name: OfNetwork,
): Promise<boolean> {
  return request.server.countInTurn(siteOf(request.ip), async () => {
    const counted = limitsOf(request, name);
    if (await isUsedUp(reply, counted)) return false;
    for (const [limit, key] of counted) if (!(await take(reply, limit, key)).isLeft) return false;
    return true;
  });
}

/**
 * Whether nothing is left of a wider limit. Look before counting: a site has so many networks that counting tries of
 * each of them would fill the memory.
 *
 * @param reply gets Retry-After then
 */
async function isUsedUp(
  reply: FastifyReply | null,
  [, ...wider]: readonly [Limit, string][],
): Promise<boolean> {
  for (const [limit, key] of wider.toReversed()) {
    const found = await limit.look(key);
    if (!found.isLeft) {
      sayWhen(reply, found);
      return true;
    }
  }
  return false;
}

/** A limit by network with the client's key, and the wider ones of IPv6 with theirs. */
function limitsOf({ ip, server: { limits } }: FastifyRequest, name: OfNetwork): [Limit, string][] {
  const ofNetwork: [Limit, string] = [limits[name], networkOf(ip)];
  const isIpv4 = siteOf(ip) === networkOf(ip);
  if (isIpv4) return [ofNetwork];
  const what = name.slice(0, -'OfNetwork'.length) as What;
  return [ofNetwork, [limits[`${what}OfHome`], homeOf(ip)], [limits[`${what}OfSite`], siteOf(ip)]];
}

/**
 * Counts one try against a limit by account and, if that is in VISIT_STRIPE, against the network's limit of visits to
 * Stripe. Returns false when none is left. Visitors who are not logged in have no limit here.
 *
 * @param reply gets Retry-After then; null when the request is answered all the same
 */
export async function takeForAccount(
  request: FastifyRequest,
  reply: FastifyReply | null,
  name: LimitName & `${string}OfAccount`,
): Promise<boolean> {
  if (request.user === null) return true;
  // The account's first: otherwise one account could use up the network's with tries that its own limit refuses.
  if (!(await take(reply, request.server.limits[name], request.user.id)).isLeft) return false;
  return !VISIT_STRIPE.has(name) || takeForNetwork(request, reply, 'stripeVisitsOfNetwork');
}

/**
 * Takes a point of an account's limit that counts only what succeeds.
 *
 * @returns a function that gives the point back, to call if the request fails; null when none is left
 */
export async function takeReturnable(
  { server }: FastifyRequest,
  reply: FastifyReply,
  name: LimitName & `${string}OfAccount`,
  userId: string,
): Promise<(() => Promise<void>) | null> {
  const { isLeft, endsAt } = await take(reply, server.limits[name], userId);
  const giveBack = () => server.limits[name].giveBack(userId, endsAt);
  if (isLeft) return giveBack;
  // A refused try must not count either.
  await giveBack();
  return null;
}

/**
 * Creates an `onRequest` hook that answers 429 once the account's limit is reached, before any body is read.
 */
export function limitedByAccount(name: LimitName & `${string}OfAccount`) {
  return async function limitAccount(request: FastifyRequest, reply: FastifyReply): Promise<void> {
    if (!(await takeForAccount(request, reply, name))) throw tooManyRequests();
  };
}

/**
 * `onRequest` hook that answers 429 to a network that requested too many unknown paths. It runs before the
 * visitor is looked up in the database.
 */
export async function limitUnknownPaths(request: FastifyRequest, reply: FastifyReply): Promise<void> {
  if (request.is404 && !(await takeForNetwork(request, reply, 'unknownPathsOfNetwork'))) {
    throw tooManyRequests();
  }
}

/**
 * Compares a password with an account's, unless too many comparisons failed from this network (or home or site) or for
 * this account. Every comparison with a stored password goes through here.
 * A point is taken from each limit before the comparison and given back unless it failed. Concurrent tries
 * therefore get no further than sequential ones. A try refused here does not count.
 *
 * @param reply gets Retry-After when no tries are left; null when the answer does not say so
 * @param email the account's address in lower case, whether or not the account exists
 * @param compare compares the password and does what the right one allows
 * @param isFailure whether the result of `compare` means a wrong password
 * @returns the result of `compare`, or undefined when no tries are left
 */
export async function tryPassword<T>(
  request: FastifyRequest,
  reply: FastifyReply | null,
  email: string,
  compare: () => Promise<T>,
  isFailure: (outcome: T) => boolean,
): Promise<T | undefined> {
  const ofNetworks = limitsOf(request, 'failedLogInsOfNetwork');
  if (await isUsedUp(reply, ofNetworks)) return undefined;
  const counted: [Limit, string][] = [...ofNetworks, [request.server.limits.failedLogInsOfAccount, email]];
  const takenOf: [Limit, string, Taken][] = [];
  let failed = false;
  try {
    for (const [limit, key] of counted) {
      const taken = await take(reply, limit, key);
      takenOf.push([limit, key, taken]);
      if (!taken.isLeft) return undefined;
    }
    const outcome = await compare();
    failed = isFailure(outcome);
    return outcome;
  } finally {
    if (!failed) for (const [limit, key, { endsAt }] of takenOf) await limit.giveBack(key, endsAt);
  }
}

/**
 * Forgets an account's failed logins, because its owner has set a new password: strangers who tried to guess the old
 * one must not keep them out.
 *
 * @param email the account's address in lower case
 */
export async function forgetFailedLogIns({ server }: FastifyRequest, email: string): Promise<void> {
  await server.limits.failedLogInsOfAccount.clear(email);
}

/**
 * Counts one reset link against the limit of the address that it would be mailed to.
 *
 * @param email in lower case
 * @returns whether it may be mailed
 */
export async function takeForResetMail(request: FastifyRequest, email: string): Promise<boolean> {
  const { isLeft } = await request.server.limits.resetMailsOfAddress.take(email);
  // A refused try must not count either.
  if (!isLeft) await giveBackResetMail(request, email);
  return isLeft;
}

/**
 * Gives back the point of a link that was not mailed. If the window has ended by then, one extra link is allowed, which
 * does no harm.
 */
export async function giveBackResetMail(request: FastifyRequest, email: string): Promise<void> {
  await request.server.limits.resetMailsOfAddress.giveBack(email, Number.POSITIVE_INFINITY);
}

async function take(reply: FastifyReply | null, limit: Limit, key: string): Promise<Taken> {
  const taken = await limit.take(key);
  if (!taken.isLeft) sayWhen(reply, taken);
  return taken;
}

function sayWhen(reply: FastifyReply | null, { endsAt }: Taken): void {
  const seconds = Math.max(1, Math.ceil((endsAt - Date.now()) / 1000));
  void reply?.header('retry-after', String(seconds));
}

export function tooManyRequests(): HttpError {
  return new HttpError(
    429,
    'too_many_requests',
    'You have asked for this too often in a short time. Wait ten minutes, then try again.',
  );
}

declare module 'fastify' {
  interface FastifyInstance {
    limits: Limits;
    /** By site (`siteOf`). */
    countInTurn: InTurn;
  }
}
