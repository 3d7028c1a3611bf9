import type { FastifyInstance } from 'fastify';

import { takeCreditNews } from '../referrals/credit-news.ts';
import type { AppContext } from '../web/context.ts';
import { noticesOf } from './credit-words.ts';

/** What somebody with an account reads, and is always there for them: what is told on it is seen. */
const PAGES: ReadonlySet<string | undefined> = new Set(['/', '/pricing', '/settings', '/portfolio']);

/**
 * Tells on the next page what moved somebody's credit since their last visit: there is no e-mail to tell it.
 *
 * @param app the scope of the pages
 * @param context what the server is built from
 */
export function tellCreditNews(app: FastifyInstance, { db, now }: AppContext): void {
  app.addHook('preHandler', async (request) => {
    const { user, method, routeOptions } = request;
    if (!user || method !== 'GET' || !PAGES.has(routeOptions.url)) return;
    request.news = noticesOf(await takeCreditNews(db, user, now()));
  });
}
