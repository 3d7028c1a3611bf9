import type { FastifyInstance } from 'fastify';

import { describeUser } from '../access/overview.ts';
import { subscriptionsOf } from '../billing/facts/subscriptions.ts';
import { isOneLive } from '../billing/portal.ts';
import { createPriceReader } from '../billing/prices.ts';
import type { AppContext } from '../web/context.ts';
import { setFlash } from '../web/cookies.ts';
import { HttpError } from '../web/errors.ts';
import { sendPage } from '../web/page.ts';
import { followInvitation } from '../web/visitor.ts';
import { tellCreditNews } from './credit-news.ts';
import { settingsRoutes } from './settings.ts';

/**
 * The pages that people read, a friend's link, and `/api/me`.
 *
 * @param app the scope of the pages
 * @param context what the server is built from
 */
export function pageRoutes(app: FastifyInstance, context: AppContext): void {
  const { config, db, stripe, now } = context;
  const prices = createPriceReader(stripe, config.stripe.prices, now);
  const place = { publicUrl: config.publicUrl, prices: config.stripe.prices };

  app.get('/', (request, reply) => sendPage(request, reply, 'landing', { title: 'Tandem' }));

  app.get('/pricing', async (request, reply) => {
    const texts = await prices();
    const live = request.user !== null && isOneLive(await subscriptionsOf(db, request.user.id));
    return sendPage(request, reply, 'pricing', {
      title: 'Pricing',
      plans: [
        { plan: 'monthly', name: 'Monthly', price: texts.monthly, interval: 'month' },
        { plan: 'annual', name: 'Annual', price: texts.annual, interval: 'year' },
      ],
      billing: request.user ? (live ? 'manage' : 'upgrade') : 'signed-out',
      trialDays: config.stripe.trialDays,
      clawbackDays: config.clawbackDays,
    });
  });

  // A link that was pasted can have more behind its code, such as a slash.
  app.get<{ Params: { '*': string } }>('/r/*', async (request, reply) => {
    await followInvitation(context, request, reply, request.params['*']);
    if (request.flash) setFlash(request, reply, request.flash);
    return reply.redirect('/pricing', 303);
  });

  app.get('/api/me', async (request) => {
    if (!request.user) throw new HttpError(401, 'unauthorized', 'Log in first.');
    const subscriptions = await subscriptionsOf(db, request.user.id);
    return describeUser(db, request.user, subscriptions, place, now());
  });

  settingsRoutes(app, context, place);
  tellCreditNews(app, context);
}
