import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';

import { findSession } from '../accounts/sessions.ts';
import { findReferrer } from '../referrals/codes.ts';
import type { AppContext } from './context.ts';
import { invitationCookie, sessionToken, setInvitation, setSession } from './cookies.ts';
import { isSafe } from './origin-check.ts';

/**
 * Gives every request the fields that pages read. Outside the scopes that recognise visitors they stay
 * empty, so an error page there shows no user.
 */
export function declareVisitor(app: FastifyInstance): void {
  app.decorateRequest('user', null);
  app.decorateRequest('invitationCode', null);
  app.decorateRequest('flash', null);
  app.decorateRequest('news', null);
  app.decorateRequest('subscriptions', null);
  app.decorateRequest('trouble', null);
}

/**
 * Identifies the visitor of each request in a scope: `request.user` from the session cookie,
 * `request.invitationCode` from a referral link followed now or earlier.
 */
export function recogniseVisitors(app: FastifyInstance, context: AppContext): void {
  app.addHook('onRequest', async function recogniseVisitor(request, reply) {
    await recogniseUser(context, request, reply);
    await followInvitation(context, request, reply, codeInQuery(request));
  });
  // The session may have ended while the body arrived, which can take half a minute.
  app.addHook('preHandler', async function recogniseAgain(request, reply) {
    if (!request.user || isSafe(request)) return;
    request.user = null;
    await recogniseUser(context, request, reply);
    // A sign-up may continue logged out, and then the invitation counts.
    await followInvitation(context, request, reply, null);
  });
}

/**
 * The codes in `?ref=`, one a line; null when there is none. There are several when somebody appended a second one to the
 * link. A POST that another site's page sent comes without cookies, so its code would replace the remembered one.
 */
function codeInQuery(request: FastifyRequest): string | null {
  if (!isSafe(request)) return null;
  const { ref } = request.query as { ref?: unknown };
  const codes = [ref].flat().filter((code) => typeof code === 'string');
  return codes.length > 0 ? codes.join('\n') : null;
}

/**
 * Follows a referral code. The visitor's first code is remembered. For a logged-in user nothing is remembered, and
 * `request.flash` says what the code means for them.
 *
 * @param code the code in the link they follow now, or null
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
  if (code === null) return;
  const referrer = await findReferrer(context.db, code);
  if (!referrer) return;
  request.invitationCode = referrer.code;
  setInvitation(request, reply, referrer.code);
}

async function recogniseUser(
  context: AppContext,
  request: FastifyRequest,
  reply: FastifyReply,
): Promise<void> {
  const token = sessionToken(request);
  if (token === null) return;
  const session = await findSession(context.db, context.sessionSecret, token, context.now());
  // Do not clear the cookie of a session that has ended: another tab may have just been given the cookie of a new one.
  if (!session) return;
  request.user = session.user;
  if (session.prolonged) setSession(request, reply, token);
}
