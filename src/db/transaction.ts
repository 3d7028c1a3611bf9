import { setTimeout as sleep } from 'node:timers/promises';

import { wholeSeconds } from '../instants.ts';
import { Prisma } from './generated/client.ts';
import type { PrismaClient } from './generated/client.ts';

export type Db = PrismaClient;

/**
 * An open interactive transaction. `now` is the one instant of everything done in it (UTC, whole seconds).
 * Service functions that write take it first and never open one of their own.
 */
export type Tx = Prisma.TransactionClient & { readonly now: Date };

/** How long one transaction may wait for its turn and then run, ms. */
const MAX_WAIT_MS = 10_000;
const TIMEOUT_MS = 10_000;

/** A refused transaction is tried again whole, at most this often. */
const MAX_TRIES = 8;

/** Worth another try at once: P1008 another process writes, P2034 write conflict or dead-lock. */
const RETRIED = new Set(['P1008', 'P2034']);

/** Not worth one: P2028 it waited for its turn, or ran, too long already. */
const TOO_SLOW = 'P2028';

/**
 * Runs `work` in one transaction: all of it commits, or none. A transaction that the database refuses because
 * of another one is run again from its start, so `work` must not do anything outside `tx`.
 *
 * @param db the database
 * @param now the instant of the transaction; cut to whole seconds
 * @param work what to do; whatever it throws rolls everything back and is thrown on
 * @returns what `work` returned, once it is committed and on disk
 */
export async function inTransaction<T>(db: Db, now: Date, work: (tx: Tx) => Promise<T>): Promise<T> {
  const at = wholeSeconds(now);
  for (let tries = 1; ; tries += 1) {
    try {
      return await db.$transaction((client) => work(withNow(client, at)), {
        maxWait: MAX_WAIT_MS,
        timeout: TIMEOUT_MS,
      });
    } catch (error) {
      if (!RETRIED.has(codeOf(error)) || tries === MAX_TRIES) throw error;
      await sleep(jitteredDelay(tries));
    }
  }
}

/**
 * @param error what a transaction threw
 * @returns whether the database refused it because of other transactions: the same can succeed later
 */
export function isRefused(error: unknown): boolean {
  const code = codeOf(error);
  return RETRIED.has(code) || code === TOO_SLOW;
}

/**
 * @param error what a query threw
 * @returns whether it broke a uniqueness constraint
 */
export function isUniqueViolation(error: unknown): boolean {
  return codeOf(error) === 'P2002';
}

function codeOf(error: unknown): string {
  return error instanceof Prisma.PrismaClientKnownRequestError ? error.code : '';
}

function withNow(client: Prisma.TransactionClient, now: Date): Tx {
  return Object.create(client, { now: { value: now, enumerable: true } }) as Tx;
}

function jitteredDelay(tries: number): number {
  return 2 ** tries * (5 + Math.random() * 5);
}
