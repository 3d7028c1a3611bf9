import type { FastifyReply, FastifyRequest } from 'fastify';

import { REFERRAL_CREDIT_DAYS } from '../referrals/convert.ts';
import { remember } from '../remember.ts';
import { longDate } from '../wording.ts';
import { takeFlash } from './cookies.ts';

const KEPT_DATES = 1_000;
const dateTexts = new Map<string, string>();

export interface Notice {
  kind: 'success' | 'info' | 'error';
  text: string;
}

/** What every page says about the site itself. */
export interface SiteInfo {
  brand: string;
  publicUrl: string;
  contactEmail: string | null;
  termsUrl: string | null;
  privacyUrl: string | null;
  sendsMail: boolean;
  /** Where people move the sandbox's clock; null when the sandbox is off. */
  sandboxUrl: string | null;
  now: () => Date;
  /** Where the sandbox shows the mail that is not sent; null when there is no such page. */
  mailboxUrl: string | null;
}

/** The page's own data and the messages at its top. */
export interface PageData extends Record<string, unknown> {
  title: string;
  notice?: Notice;
}

/**
 * Renders a page with the data that every page needs. The status of the reply stays as set.
 *
 * @param template the view's name without its extension
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
    site: request.server.site,
    invitation: invitationCode === null ? null : { code: invitationCode },
    creditDays: REFERRAL_CREDIT_DAYS,
    date: dateText,
    day,
    trouble: request.trouble,
    ...data,
    notices: [...(said ? [withBrand(said, request.server.site)] : []), ...(request.news ?? [])],
  });
}

function withBrand({ kind, text }: Notice, { brand }: SiteInfo): Notice {
  return { kind, text: text.replace('{brand}', () => brand) };
}

/**
 * A date as HTML. Not a partial: a page shows a hundred dates, and including a template a hundred times is slow.
 */
function day(instant: Date): string {
  return `<time datetime="${instant.toISOString()}">${dateText(instant)}</time>`;
}

/**
 * A date in words, UTC. Cached, because formatting a date takes longer than rendering the rest of its line,
 * and most lines show the same few dates.
 */
export function dateText(instant: Date): string {
  const date = instant.toISOString().slice(0, 10);
  return dateTexts.get(date) ?? remember(dateTexts, date, longDate(instant), KEPT_DATES);
}

declare module 'fastify' {
  interface FastifyInstance {
    site: SiteInfo;
  }
  interface FastifyRequest {
    /** What changed the user's credit since their last visit. */
    news: readonly Notice[] | null;
  }
}
