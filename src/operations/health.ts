import type { FastifyInstance } from 'fastify';

import type { AppContext } from '../web/context.ts';

/**
 * `/healthz`: the process answers. `/readyz`: the database does too (it was migrated before the server began to listen).
 *
 * @param app the scope of the pages
 * @param context what the server is built from
 */
export function healthRoutes(app: FastifyInstance, { db }: AppContext): void {
  app.get('/healthz', () => ({ status: 'ok' }));
  app.get('/readyz', async (request, reply) => {
    try {
      await db.$queryRaw`SELECT 1`;
      return { status: 'ok' };
    } catch (error) {
      request.log.error({ err: error }, 'the database does not answer');
      return reply.status(503).send({ status: 'the database does not answer' });
    }
  });
}
