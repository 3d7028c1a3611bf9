import { setImmediate as nextTurn, setTimeout as sleep } from 'node:timers/promises';

import { isDriverAdapterError } from '@prisma/driver-adapter-utils';

import { wholeSeconds } from '../instants.ts';
import { transactionRetries, transactionsGivenUp } from '../metrics.ts';
import { Prisma } from './generated/client.ts';
import type { PrismaClient } from './generated/client.ts';
import { createGroups } from './group-commit.ts';

export type Db = PrismaClient;

/** For functions that only read: the database, a transaction or a snapshot. */
export type Reader = Prisma.TransactionClient;

export type Engine = 'sqlite' | 'postgresql';

/**
 * An open interactive transaction. `now` is the one instant of everything done in it (UTC, whole seconds). A function
 * that takes a `Tx` never opens a transaction of its own.
 */
export type Tx = Prisma.TransactionClient & {
  readonly now: Date;
  readonly engine: Engine;
  /** Runs `work` once after the commit, for example to count in a metric. It must not throw. */
  readonly afterCommit: (work: () => void) => void;
};

/** How long a transaction may wait to begin, ms. The adapters give up earlier, with a better error. */
const MAX_WAIT_MS = 60_000;

/** How long a transaction may run, ms. A snapshot may take longer because it blocks nobody. */
const TIMEOUT_MS = 10_000;
const SNAPSHOT_TIMEOUT_MS = 60_000;

/** A group of transactions yields to the event loop when it has worked this long since it last did, ms. */
const YIELD_AFTER_MS = 5;

/** Retry budget for a whole transaction: attempts, and ms. Stripe does not wait longer. */
const MAX_TRIES = 8;
const MAX_TRYING_MS = 10_000;

/** Write conflict or deadlock: retried after a short delay, which doubles each time. */
const RETRIED = 'P2034';

/**
 * Not retried: after P1008 (another process was writing, or the pool was exhausted) and P2028 (the transaction waited or
 * ran too long) because the wait was too long already, and after P2037 (too many connections) because a retry would add
 * to the load.
 */
const TOO_SLOW = new Set(['P1008', 'P2028', 'P2037']);

/**
 * The database is down, refuses us, or the connection broke. https://www.prisma.io/docs/orm/reference/error-reference
 */
const UNREACHABLE = new Set(['P1000', 'P1001', 'P1003', 'P1010', 'P1011', 'P1017']);

/**
 * Prisma reports every failure of a raw query as P2010, and one in COMMIT without a code, so we map the driver's
 * error kind.
 */
const CODE_OF_KIND: Readonly<Record<string, string>> = {
  AuthenticationFailed: 'P1000',
  DatabaseNotReachable: 'P1001',
  DatabaseDoesNotExist: 'P1003',
  SocketTimeout: 'P1008',
  DatabaseAccessDenied: 'P1010',
  TlsConnectionError: 'P1011',
  ConnectionClosed: 'P1017',
  UniqueConstraintViolation: 'P2002',
  TransactionWriteConflict: 'P2034',
  TooManyConnections: 'P2037',
};

/** Network errors that the driver passes through unmapped. */
const NETWORK_DOWN = new Set(['EHOSTUNREACH', 'ENETUNREACH', 'EAI_AGAIN', 'EPIPE']);

interface Job {
  now: Date;
  work: (tx: Tx) => Promise<unknown>;
}

/** The databases with one writer, which commit in groups. */
const groups = new WeakMap<Db, (job: Job) => Promise<unknown>>();

/** Commits concurrent transactions in groups (`createGroups`). For a database with one writer. */
export function commitInGroups(db: Db): void {
  groups.set(
    db,
    createGroups((jobs: readonly Job[]) => commit(db, jobs), isBusyOrUnreachable),
  );
}

export function engineOf(db: Db): Engine {
  return groups.has(db) ? 'sqlite' : 'postgresql';
}

/**
 * Runs `work` in one transaction. `work` must have no effects outside `tx`: it is run again after a write conflict,
 * and after a failure of another transaction in its group.
 *
 * @param now cut to whole seconds
 * @param work whatever it throws rolls everything back and is rethrown
 * @returns what `work` returned, once it is committed and on disk
 */
export async function inTransaction<T>(db: Db, now: Date, work: (tx: Tx) => Promise<T>): Promise<T> {
  const job = { now: wholeSeconds(now), work };
  const group = groups.get(db);
  if (group) return (await group(job)) as T;
  const [result] = await commit(db, [job]);
  return result as T;
}

/**
 * Runs `work` on a read-only snapshot, taken at its first statement. It neither waits for writers nor blocks them.
 * `work` may run more than once.
 */
export function inSnapshot<T>(db: Db, work: (snapshot: Reader) => Promise<T>): Promise<T> {
  // Prisma passes only the isolation level on to an adapter, so ours treat any level as a request for a snapshot.
  const options = {
    isolationLevel: 'Serializable',
    maxWait: MAX_WAIT_MS,
    timeout: SNAPSHOT_TIMEOUT_MS,
  } as const;
  return withRetries(() => db.$transaction(work, options));
}

/** Runs jobs one after the other in one transaction and returns their results. */
async function commit(db: Db, jobs: readonly Job[]): Promise<unknown[]> {
  const engine = engineOf(db);
  return withRetries(async () => {
    const afterCommit: (() => void)[] = [];
    const runAll = async (client: Prisma.TransactionClient): Promise<unknown[]> => {
      const results = [];
      let resumed = performance.now();
      for (const { now, work } of jobs) {
        results.push(await work(openTx(client, now, engine, afterCommit)));
        // SQLite answers synchronously; yield so that a large group does not block the event loop. Not after each job:
        // while pages are requested, a turn can take longer than a whole group, and the write lock is held meanwhile.
        if (jobs.length > 1 && performance.now() - resumed >= YIELD_AFTER_MS) {
          await nextTurn();
          resumed = performance.now();
        }
      }
      return results;
    };
    const results = await db.$transaction(runAll, { maxWait: MAX_WAIT_MS, timeout: TIMEOUT_MS });
    afterCommit.forEach(runAfterCommit);
    return results;
  });
}

/** Retries a transaction after write conflicts. */
async function withRetries<T>(transaction: () => Promise<T>): Promise<T> {
  const begun = performance.now();
  for (let tries = 1; ; tries += 1) {
    try {
      return await transaction();
    } catch (error) {
      const code = codeOf(error);
      const tooOften = tries === MAX_TRIES || performance.now() - begun > MAX_TRYING_MS;
      if (code !== RETRIED || tooOften) {
        // No other transaction wins every time, so this is no race: the work itself writes a row that already exists.
        if (tries === MAX_TRIES && error instanceof LostRace && isUniqueViolation(error.cause))
          throw error.cause;
        if (isBusyOrUnreachable(error)) transactionsGivenUp.inc({ code });
        throw error;
      }
      transactionRetries.inc({ code });
      await sleep(jitteredDelay(tries));
    }
  }
}

/** Whether a transaction failed because of the database, not because of its own work. It can succeed later. */
export function isBusyOrUnreachable(error: unknown): boolean {
  const code = codeOf(error);
  return code === RETRIED || TOO_SLOW.has(code) || UNREACHABLE.has(code);
}

/**
 * Whether the database cannot be reached or the connection broke. If this happens during COMMIT, the outcome is
 * unknown.
 */
export function isUnreachable(error: unknown): boolean {
  return UNREACHABLE.has(codeOf(error));
}

export function isUniqueViolation(error: unknown): boolean {
  return codeOf(error) === 'P2002';
}

/**
 * Thrown when a concurrent transaction won a race. The whole transaction runs again and sees what the other one
 * wrote.
 */
export class LostRace extends Error {
  override name = 'LostRace';
  constructor(cause: unknown) {
    super('A concurrent transaction won the race; this one runs again.', { cause });
  }
}

function codeOf(error: unknown): string {
  if (error instanceof LostRace) return RETRIED;
  if (error instanceof Error && 'code' in error && NETWORK_DOWN.has(String(error.code))) return 'P1001';
  const known = error instanceof Prisma.PrismaClientKnownRequestError ? error : null;
  const cause = known ? known.meta?.['driverAdapterError'] : error;
  const code =
    cause instanceof Error && isDriverAdapterError(cause) ? CODE_OF_KIND[cause.cause.kind] : undefined;
  return code ?? known?.code ?? '';
}

function openTx(
  client: Prisma.TransactionClient,
  now: Date,
  engine: Engine,
  afterCommit: (() => void)[],
): Tx {
  return Object.create(client, {
    now: { value: now, enumerable: true },
    engine: { value: engine, enumerable: true },
    afterCommit: { value: (work: () => void) => afterCommit.push(work), enumerable: true },
  }) as Tx;
}

/** Already committed: warn, do not fail the request. */
function runAfterCommit(work: () => void): void {
  try {
    work();
  } catch (error) {
    process.emitWarning(error instanceof Error ? error : String(error));
  }
}

function jitteredDelay(tries: number): number {
  return 2 ** tries * (5 + Math.random() * 5);
}
