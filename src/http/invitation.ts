import type { FastifyInstance } from 'fastify';

import type { AppContext } from './context.ts';
import { setFlash } from './cookies.ts';
import { followInvitation } from './visitor.ts';

/**
 * `GET /r/CODE`: a friend's link.
 *
 * @param app the people's scope
 * @param context what the server is built from
 */
export function invitationRoute(app: FastifyInstance, context: AppContext): void {
  // A link that was pasted can have more behind its code, such as a slash.
  app.get<{ Params: { '*': string } }>('/r/*', async (request, reply) => {
    await followInvitation(context, request, reply, request.params['*']);
    if (request.flash) setFlash(request, reply, request.flash);
    return reply.redirect('/pricing', 303);
  });
}
