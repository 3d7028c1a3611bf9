import type { FastifyInstance } from 'fastify';

import { markCreditNewsSeen, readCreditNews } from '../referrals/credit-news.ts';
import type { AppContext } from './context.ts';
import { noticesOf } from './credit-words.ts';

/** Pages on which news is shown and then counts as seen. */
const PAGES: ReadonlySet<string | undefined> = new Set(['/', '/pricing', '/settings', '/portfolio']);

/**
 * Shows on the next page what changed a user's credit since their last visit, whether or not it was also
 * mailed. News is marked as seen when the page is ready to send: two pages opened at once may both show it. If the
 * connection breaks at that moment, only the history in Settings shows it.
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
      // Send the page anyway; the next one shows the news again.
      log.warn({ err: error }, 'credit news could not be marked as seen; the next page shows it again');
    }
  });
}

declare module 'fastify' {
  interface FastifyRequest {
    /** Sequence number of the newest credit ledger entry that this page shows as news. */
    lastNewsSeq: number | null;
  }
}
