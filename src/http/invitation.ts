import type { FastifyInstance } from 'fastify';

import type { AppContext } from './context.ts';
import { setFlash } from './cookies.ts';
import { followInvitation } from './visitor.ts';

/** `GET /r/CODE`: a referral link. */
export function invitationRoute(app: FastifyInstance, context: AppContext): void {
  // A wildcard, because a pasted link can have a slash or other text after its code.
  app.get<{ Params: { '*': string } }>('/r/*', async (request, reply) => {
    await followInvitation(context, request, reply, request.params['*']);
    if (request.flash) setFlash(request, reply, request.flash);
    return reply.redirect('/pricing', 303);
  });
}
