import type { FastifyReply, FastifyRequest } from 'fastify';

import { HttpError } from './errors.ts';

/**
 * Sends someone who must log in to `/login` with 303, if they accept HTML.
 * @throws HttpError 401 when they do not
 */
export function sendToLogIn(request: FastifyRequest, reply: FastifyReply): FastifyReply {
  if (request.headers.accept?.includes('text/html')) return reply.redirect('/login', 303);
  throw new HttpError(401, 'unauthorized', 'Log in first.');
}
