import { setImmediate as nextTurn, setTimeout as sleep } from 'node:timers/promises';

import { isDriverAdapterError } from '@prisma/driver-adapter-utils';

import { wholeSeconds } from '../instants.ts';
import { transactionRetries, transactionsGivenUp } from '../metrics.ts';
import { Prisma } from './generated/client.ts';
import type { PrismaClient } from './generated/client.ts';
import { createGroups } from './group-commit.ts';

export type Db = PrismaClient;

export type Engine = 'sqlite' | 'postgresql';

/**
 * An open interactive transaction. `now` is the one instant of everything done in it (UTC, whole seconds).
 * Service functions that write take it first and never open one of their own.
 */
export type Tx = Prisma.TransactionClient & {
  readonly now: Date;
  readonly engine: Engine;
  /** Has something done once, after the commit, and not at all if there is none: counting, say. It must not throw. */
  readonly afterCommit: (work: () => void) => void;
};

/** How long a transaction may wait to begin, ms. The adapters give up earlier, and with a better reason. */
const MAX_WAIT_MS = 60_000;

/** How long a transaction may run, ms. Nobody waits for a snapshot. */
const TIMEOUT_MS = 10_000;
const SNAPSHOT_TIMEOUT_MS = 60_000;

/** A refused transaction is tried again whole, at most this often, and not after so long: Stripe does not wait longer, ms. */
const MAX_TRIES = 8;
const MAX_TRYING_MS = 10_000;

/** Worth another try at once: write conflict or dead-lock. */
const RETRIED = 'P2034';

/**
 * Not worth one: P1008 another process wrote, or all connections were in use, and P2028 it waited or ran, for too long
 * already; P2037 the database has as many connections as it takes.
 */
const TOO_SLOW = new Set(['P1008', 'P2028', 'P2037']);

/** The database is down, refuses us, or the connection broke. https://www.prisma.io/docs/orm/reference/error-reference */
const UNREACHABLE = new Set(['P1000', 'P1001', 'P1003', 'P1010', 'P1011', 'P1017']);

/** Prisma calls whatever fails in a raw query P2010, and in a COMMIT nothing at all: the driver's word for it counts. */
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

/** Of the network's own errors the driver tells some as they are. */
const NETWORK_DOWN = new Set(['EHOSTUNREACH', 'ENETUNREACH', 'EAI_AGAIN', 'EPIPE']);

/** What runs in a transaction, and the instant of it. */
interface Job {
  now: Date;
  work: (tx: Tx) => Promise<unknown>;
}

/** The databases that have one writer. */
const groups = new WeakMap<Db, (job: Job) => Promise<unknown>>();

/**
 * Has transactions that wait for each other committed together (`createGroups`): for a database with one writer.
 *
 * @param db the database
 */
export function commitInGroups(db: Db): void {
  groups.set(
    db,
    createGroups((jobs: readonly Job[]) => commit(db, jobs), isRefused),
  );
}

/**
 * @param db the database
 * @returns which kind it is
 */
export function engineOf(db: Db): Engine {
  return groups.has(db) ? 'sqlite' : 'postgresql';
}

/**
 * Runs `work` in one transaction: all of it commits, or none. A transaction that the database refuses because of
 * another one is run again from its start, and so is one that was to be committed together with another that failed:
 * `work` must not do anything outside `tx`.
 *
 * @param db the database
 * @param now the instant of the transaction; cut to whole seconds
 * @param work what to do; whatever it throws rolls everything back and is thrown on
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
 * Runs `work` on one state of the database, that of its first statement. It can only read; it waits for no writer and
 * holds none up.
 *
 * @param db the database
 * @param work what to read; it may be run again from its start
 * @returns what `work` returned
 */
export function inSnapshot<T>(db: Db, work: (snapshot: Prisma.TransactionClient) => Promise<T>): Promise<T> {
  // Prisma hands nothing but the isolation level on to an adapter. Ours take any for a snapshot.
  const options = {
    isolationLevel: 'Serializable',
    maxWait: MAX_WAIT_MS,
    timeout: SNAPSHOT_TIMEOUT_MS,
  } as const;
  return untilTaken(() => db.$transaction(work, options));
}

/** Runs jobs one after the other in one transaction; what each of them returned. */
async function commit(db: Db, jobs: readonly Job[]): Promise<unknown[]> {
  const engine = engineOf(db);
  return untilTaken(async () => {
    const afterCommit: (() => void)[] = [];
    const runAll = async (client: Prisma.TransactionClient): Promise<unknown[]> => {
      const results = [];
      for (const { now, work } of jobs) {
        results.push(await work(openTx(client, now, engine, afterCommit)));
        // SQLite answers at once, and a whole group of such answers would let nothing else in.
        if (jobs.length > 1) await nextTurn();
      }
      return results;
    };
    const results = await db.$transaction(runAll, { maxWait: MAX_WAIT_MS, timeout: TIMEOUT_MS });
    afterCommit.forEach(runAfterCommit);
    return results;
  });
}

/** Runs a transaction, again from its start when the database refuses it because of another one. */
async function untilTaken<T>(transaction: () => Promise<T>): Promise<T> {
  const begun = performance.now();
  for (let tries = 1; ; tries += 1) {
    try {
      return await transaction();
    } catch (error) {
      const code = codeOf(error);
      const tooOften = tries === MAX_TRIES || performance.now() - begun > MAX_TRYING_MS;
      if (code !== RETRIED || tooOften) {
        if (isRefused(error)) transactionsGivenUp.inc({ code });
        throw error;
      }
      transactionRetries.inc({ code });
      await sleep(jitteredDelay(tries));
    }
  }
}

/**
 * @param error what a transaction threw
 * @returns whether it says nothing about the work: the database was busy with other transactions, or `isUnreachable`.
 *   The same can succeed later
 */
export function isRefused(error: unknown): boolean {
  const code = codeOf(error);
  return code === RETRIED || TOO_SLOW.has(code) || UNREACHABLE.has(code);
}

/**
 * @param error what a query or a transaction threw
 * @returns whether the database cannot be reached, or the connection broke. Of a transaction that was about to commit
 *   nobody knows then whether it did
 */
export function isUnreachable(error: unknown): boolean {
  return UNREACHABLE.has(codeOf(error));
}

/**
 * @param error what a query threw
 * @returns whether it broke a uniqueness constraint
 */
export function isUniqueViolation(error: unknown): boolean {
  return codeOf(error) === 'P2002';
}

/** Thrown by work that another transaction was faster than: run again from its start, it sees what that one wrote. */
export class LostRace extends Error {
  override name = 'LostRace';
  constructor(cause: unknown) {
    super('Another transaction was faster, so this one is run again.', { cause });
  }
}

function codeOf(error: unknown): string {
  if (error instanceof LostRace) return 'P2034';
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

/** What is committed stays so: an error here is one to mend, and not the caller's. */
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
