import { setTimeout as sleep } from 'node:timers/promises';

import type { FastifyInstance } from 'fastify';

import type { AppContext } from '../web/context.ts';

/** How long the database may take to answer, ms. */
const ANSWER_MS = 2_000;

/** Options of a route that answers even while the server refuses other requests: it tells how the server is. */
export const EVEN_UNDER_PRESSURE = { config: { pressureHandler: () => undefined } };

/**
 * `/healthz`: the process answers. `/readyz`: the database does too, within 2 s, and no migration of it is unfinished
 * (they are applied before the server begins to listen).
 *
 * @param app the whole server
 * @param context what the server is built from
 */
export function healthRoutes(app: FastifyInstance, { db }: AppContext): void {
  let asked: Promise<number> | null = null;

  /** One question at a time: a database that hangs is not asked more and more. */
  function unfinishedMigrations(): Promise<number> {
    asked ??= db.$queryRaw<{ count: number | bigint }[]>`
      SELECT count(*) AS "count" FROM "_prisma_migrations" WHERE "finished_at" IS NULL AND "rolled_back_at" IS NULL`
      .then(([row]) => Number(row?.count))
      .finally(() => (asked = null));
    return asked;
  }

  app.get('/healthz', EVEN_UNDER_PRESSURE, () => ({ status: 'ok' }));
  app.get('/readyz', EVEN_UNDER_PRESSURE, async (request, reply) => {
    try {
      const unfinished = await within(ANSWER_MS, unfinishedMigrations());
      if (unfinished === 0) return { status: 'ok' };
      return await reply.status(503).send({ status: 'a migration of the database is not finished' });
    } catch (error) {
      request.log.error({ err: error }, 'the database does not answer');
      return reply.status(503).send({ status: 'the database does not answer' });
    }
  });
}

async function within<T>(ms: number, work: Promise<T>): Promise<T> {
  const timer = new AbortController();
  const tooLong = sleep(ms, undefined, { signal: timer.signal }).then(() => {
    throw new Error(`No answer within ${ms} ms.`);
  });
  try {
    return await Promise.race([work, tooLong]);
  } finally {
    timer.abort();
  }
}
