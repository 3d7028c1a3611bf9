import type { FastifyReply, FastifyRequest } from 'fastify';

import { REFERRAL_CREDIT_DAYS } from '../referrals/convert.ts';
import { takeFlash } from './cookies.ts';

const DATE = new Intl.DateTimeFormat('en-GB', { dateStyle: 'long', timeZone: 'UTC' });

export interface Notice {
  kind: 'success' | 'info' | 'error';
  text: string;
}

/** What a page shows: its own data, and what it says at the top. */
export interface PageData extends Record<string, unknown> {
  title: string;
  notice?: Notice;
}

/**
 * Sends a page, with what every page needs to know.
 *
 * @param request whose page
 * @param reply the answer; its status stands
 * @param template the view's name, without its ending
 * @param data the page's own data
 * @returns the reply
 */
export function sendPage(
  request: FastifyRequest,
  reply: FastifyReply,
  template: string,
  data: PageData,
): FastifyReply {
  const { user, invitationCode } = request;
  const said = data.notice ?? takeFlash(request, reply);
  return reply.header('cache-control', 'no-store').view(template, {
    path: request.url.split('?')[0],
    user: user && { email: user.email },
    sandbox: request.server.sandboxOn,
    invitation: invitationCode === null ? null : { code: invitationCode },
    creditDays: REFERRAL_CREDIT_DAYS,
    date: (instant: Date) => DATE.format(instant),
    ...data,
    notices: [...(said ? [said] : []), ...(request.news ?? [])],
  });
}

declare module 'fastify' {
  interface FastifyInstance {
    sandboxOn: boolean;
  }
  interface FastifyRequest {
    /** What happened to the user's credit since their last visit. */
    news: readonly Notice[] | null;
  }
}
