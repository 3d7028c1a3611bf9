import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';

import { findSession } from '../accounts/sessions.ts';
import { findReferrer } from '../referrals/codes.ts';
import type { AppContext } from './context.ts';
import { clearSession, invitationCookie, sessionToken, setInvitation, setSession } from './cookies.ts';

/**
 * Gives every request the fields that pages read. They stay empty outside the people's scope: there an error's page is
 * for a stranger.
 *
 * @param app the whole server
 */
export function declareVisitor(app: FastifyInstance): void {
  app.decorateRequest('user', null);
  app.decorateRequest('invitationCode', null);
  app.decorateRequest('flash', null);
  app.decorateRequest('news', null);
}

/**
 * Makes every request of a scope know who asks: `request.user` from the session's cookie, `request.invitationCode` from
 * a friend's link, now or earlier.
 *
 * @param app the people's scope
 * @param context what the server is built from
 */
export function recognizeVisitors(app: FastifyInstance, context: AppContext): void {
  app.addHook('onRequest', async function recognizeVisitor(request, reply) {
    await recognizeUser(context, request, reply);
    const { ref } = request.query as { ref?: unknown };
    // Given twice, it is an array: some link got a second one added.
    const codes = [ref].flat().filter((code) => typeof code === 'string');
    await followInvitation(context, request, reply, codes.length > 0 ? codes.join('\n') : null);
  });
}

/**
 * Follows a friend's code. The first one that a visitor came with is remembered; an unknown one is silently none; whoever
 * has an account reads what it means for them, from `request.flash`.
 *
 * @param context what the server is built from
 * @param request whose visitor
 * @param reply takes the cookie
 * @param code what the link they follow now has for a code, or null
 */
export async function followInvitation(
  context: AppContext,
  request: FastifyRequest,
  reply: FastifyReply,
  code: string | null,
): Promise<void> {
  if (request.user) {
    const referrer = code === null ? null : await findReferrer(context.db, code);
    if (referrer) request.flash = referrer.id === request.user.id ? 'own-link' : 'code-at-sign-up';
    return;
  }
  const remembered = invitationCookie(request);
  const first = remembered === null ? null : await findReferrer(context.db, remembered);
  if (first) {
    request.invitationCode = first.code;
    return;
  }
  const referrer = code === null ? null : await findReferrer(context.db, code);
  if (!referrer) return;
  request.invitationCode = referrer.code;
  setInvitation(request, reply, referrer.code);
}

async function recognizeUser(
  context: AppContext,
  request: FastifyRequest,
  reply: FastifyReply,
): Promise<void> {
  const token = sessionToken(request);
  if (token === null) return;
  const session = await findSession(context.db, context.sessionSecret, token, context.now());
  if (!session) {
    clearSession(request, reply);
    return;
  }
  request.user = session.user;
  if (session.prolonged) setSession(request, reply, token);
}
