import type { FastifyReply, FastifyRequest } from 'fastify';

import { HttpError } from './errors.ts';

/**
 * Answers somebody who is not logged in and needs to be: a browser that wants a page is sent to the log-in.
 *
 * @param request theirs
 * @param reply the answer
 * @returns the reply: 303 to `/login`
 * @throws HttpError 401 when no page is wanted
 */
export function sendToLogIn(request: FastifyRequest, reply: FastifyReply): FastifyReply {
  if (request.headers.accept?.includes('text/html')) return reply.redirect('/login', 303);
  throw new HttpError(401, 'unauthorized', 'Log in first.');
}
