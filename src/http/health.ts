import { setTimeout as sleep } from 'node:timers/promises';

import type { FastifyInstance } from 'fastify';

import { neededMigrations } from '../db/open.ts';
import { isBusyOrUnreachable, isUnreachable } from '../db/transaction.ts';
import type { AppContext } from './context.ts';

/** Time limit for the database to answer, ms. */
const ANSWER_MS = 2_000;

/** Age at which an unanswered check is given up, ms: over a dead connection, a query may never settle. */
const GIVE_UP_MS = 10_000;

/**
 * Route options: answer even while the server refuses other requests, because these routes report its state.
 */
export const EVEN_UNDER_PRESSURE = { config: { pressureHandler: () => undefined, reportsState: true } };

/**
 * `/healthz`: the process answers. `/readyz`: the database answers within 2 s and every migration this code
 * knows is finished.
 * Migrations from a newer version are accepted: a server that has not been stopped yet keeps answering.
 */
export function healthRoutes(app: FastifyInstance, { db, config, now }: AppContext): void {
  let neededNames: string[] | null = null;
  let check: { startedAt: number; answer: Promise<string | null> } | null = null;

  /**
   * Share one check between concurrent requests, so that a hanging database is queried once every 10 s at most.
   */
  function whyNotReady(): Promise<string | null> {
    const startedAt = now().getTime();
    // The clock can also be set back.
    if (check && Math.abs(startedAt - check.startedAt) < GIVE_UP_MS) return check.answer;
    const answer = compareMigrations().finally(() => {
      // A newer check may have replaced it.
      if (check?.answer === answer) check = null;
    });
    check = { startedAt, answer };
    return answer;
  }

  async function compareMigrations(): Promise<string | null> {
    const rows = await db.$queryRaw<{ name: string; finished: boolean | number | bigint }[]>`
      SELECT "migration_name" AS "name", "finished_at" IS NOT NULL AS "finished"
      FROM "_prisma_migrations" WHERE "rolled_back_at" IS NULL`;
    const needed = (neededNames ??= await neededMigrations(config.databaseUrl));
    const unfinished = rows.find(({ name, finished }) => !finished && needed.includes(name));
    if (unfinished) return `the migration ${unfinished.name} of the database is not finished`;
    const names = new Set(rows.map(({ name }) => name));
    const missing = needed.filter((name) => !names.has(name));
    if (missing.length === 0) return null;
    return `the database lacks ${missing.length === 1 ? 'the migration' : 'the migrations'} ${missing.join(', ')}: restart the server`;
  }

  app.get('/healthz', EVEN_UNDER_PRESSURE, () => ({ status: 'ok' }));
  app.get('/readyz', EVEN_UNDER_PRESSURE, async (request, reply) => {
    try {
      const problem = await within(ANSWER_MS, whyNotReady());
      return problem === null ? { status: 'ok' } : await reply.status(503).send({ status: problem });
    } catch (error) {
      const status = isUnreachable(error)
        ? 'the database cannot be reached'
        : error instanceof TooLate
          ? `the database is busy: no answer within ${ANSWER_MS / 1000} s`
          : isBusyOrUnreachable(error)
            ? 'the database is busy'
            : 'the check failed; the log says why';
      request.log.error({ err: error }, status);
      return reply.status(503).send({ status });
    }
  });
}

class TooLate extends Error {
  override name = 'TooLate';
}

async function within<T>(ms: number, work: Promise<T>): Promise<T> {
  const timer = new AbortController();
  const tooLong = sleep(ms, undefined, { signal: timer.signal }).then(() => {
    throw new TooLate(`No answer within ${ms} ms.`);
  });
  try {
    return await Promise.race([work, tooLong]);
  } finally {
    timer.abort();
  }
}
