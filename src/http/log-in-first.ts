import type { FastifyReply, FastifyRequest } from 'fastify';

import type { Plan } from '../stripe/prices.ts';
import { HttpError } from './errors.ts';

/**
 * Sends someone who must log in to `/login` with 303, if they accept HTML.
 * @param plan the plan they chose, to go on with afterwards
 * @throws HttpError 401 when they do not
 */
export function sendToLogIn(
  request: FastifyRequest,
  reply: FastifyReply,
  plan: Plan | null = null,
): FastifyReply {
  if (request.headers.accept?.includes('text/html'))
    return reply.redirect(plan ? `/login?plan=${plan}` : '/login', 303);
  throw new HttpError(401, 'unauthorized', 'Log in first.');
}
