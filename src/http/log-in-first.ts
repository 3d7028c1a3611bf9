import type { FastifyReply, FastifyRequest } from 'fastify';

import type { Plan } from '../config.ts';
import { setFlash } from './cookies.ts';
import { HttpError } from './errors.ts';
import { isSafe } from './origin-check.ts';

export const LOG_IN_FIRST = new HttpError(401, 'unauthorized', 'Log in first.');

/** Redirects to `/login`, with a message that asks the visitor to log in. */
export function redirectToLogIn(request: FastifyRequest, reply: FastifyReply): FastifyReply {
  setFlash(request, reply, isSafe(request) ? 'log-in-first' : 'nothing-done');
  return reply.redirect('/login', 303);
}

/**
 * Redirects to `/login` with 303 if the client accepts HTML.
 *
 * @param plan the chosen plan; after the login the user continues to its checkout
 * @throws HttpError 401 if the client does not accept HTML
 */
export function sendToLogIn(
  request: FastifyRequest,
  reply: FastifyReply,
  plan: Plan | null = null,
): FastifyReply {
  if (request.headers.accept?.includes('text/html'))
    return plan ? reply.redirect(`/login?plan=${plan}`, 303) : redirectToLogIn(request, reply);
  throw LOG_IN_FIRST;
}
