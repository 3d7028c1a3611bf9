import type { FastifyInstance } from 'fastify';

import { markCreditNewsSeen, readCreditNews } from '../referrals/credit-news.ts';
import type { AppContext } from './context.ts';
import { noticesOf } from './credit-words.ts';

/** What somebody with an account reads: what is told on it is seen. */
const PAGES: ReadonlySet<string | undefined> = new Set(['/', '/pricing', '/settings', '/portfolio']);

/**
 * Tells on the next page what moved somebody's credit since their last visit, whether or not a mail told it. News counts
 * as seen when its page is made and about to be sent: rather told twice, on two pages opened at once, than never.
 *
 * @param app the scope of the pages
 * @param context what the server is built from
 */
export function tellCreditNews(app: FastifyInstance, { db, now }: AppContext): void {
  app.decorateRequest('lastNewsSeq', null);

  app.addHook('preHandler', async function readNews(request) {
    const { user, method, routeOptions } = request;
    if (!user || method !== 'GET' || !PAGES.has(routeOptions.url)) return;
    const entries = await readCreditNews(db, user);
    request.news = noticesOf(entries);
    request.lastNewsSeq = entries.at(-1)?.seq ?? null;
  });

  app.addHook('onSend', async function markNewsSeen({ user, lastNewsSeq, log }, reply) {
    if (!user || lastNewsSeq === null || reply.statusCode !== 200) return;
    try {
      await markCreditNewsSeen(db, user.id, lastNewsSeq, now());
    } catch (error) {
      // The page is theirs all the same; the next one tells it again.
      log.warn({ err: error }, 'News of credit was told, and could not be marked as seen.');
    }
  });
}

declare module 'fastify' {
  interface FastifyRequest {
    /** The number of the last entry of the user's credit ledger that this page tells as news. */
    lastNewsSeq: number | null;
  }
}
