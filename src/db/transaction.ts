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

/** Refused because of somebody else's transaction: P1008 busy, P2034 write conflict or dead-lock. */
const REFUSED = new Set(['P1008', 'P2034']);

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
      if (!isRefused(error) || tries === MAX_TRIES) throw error;
      await sleep(jitteredDelay(tries));
    }
  }
}

/**
 * @param error what a transaction threw
 * @returns whether the database refused it because of another transaction: trying later can succeed
 */
export function isRefused(error: unknown): boolean {
  return error instanceof Prisma.PrismaClientKnownRequestError && REFUSED.has(error.code);
}

/**
 * @param error what a query threw
 * @returns whether it broke a uniqueness constraint
 */
export function isUniqueViolation(error: unknown): boolean {
  return error instanceof Prisma.PrismaClientKnownRequestError && error.code === 'P2002';
}

function withNow(client: Prisma.TransactionClient, now: Date): Tx {
  return Object.create(client, { now: { value: now, enumerable: true } }) as Tx;
}

function jitteredDelay(tries: number): number {
  return 2 ** tries * (5 + Math.random() * 5);
}
