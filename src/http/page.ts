import type { FastifyReply, FastifyRequest } from 'fastify';

import { REFERRAL_CREDIT_DAYS } from '../referrals/convert.ts';
import { remember } from '../remember.ts';
import { takeFlash } from './cookies.ts';

const KEPT_DATES = 1_000;
const dateTexts = new Map<string, string>();

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
    mailboxUrl: request.server.mailboxUrl,
    invitation: invitationCode === null ? null : { code: invitationCode },
    creditDays: REFERRAL_CREDIT_DAYS,
    date: dateText,
    day,
    ...data,
    notices: [...(said ? [said] : []), ...(request.news ?? [])],
  });
}

/** A day as HTML. No partial: a page shows a hundred of them, and including a template a hundred times takes its time. */
function day(instant: Date): string {
  return `<time datetime="${instant.toISOString()}">${dateText(instant)}</time>`;
}

/** A date in words, in UTC. Putting one into words takes longer than the line around it, and most lines share theirs. */
function dateText(instant: Date): string {
  const date = instant.toISOString().slice(0, 10);
  return dateTexts.get(date) ?? remember(dateTexts, date, DATE.format(instant), KEPT_DATES);
}

declare module 'fastify' {
  interface FastifyInstance {
    sandboxOn: boolean;
    /** Where the sandbox shows the mail that was sent; null when there is no such page. */
    mailboxUrl: string | null;
  }
  interface FastifyRequest {
    /** What happened to the user's credit since their last visit. */
    news: readonly Notice[] | null;
  }
}
