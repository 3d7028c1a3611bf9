import type { FastifyInstance } from 'fastify';

import { subscriptionsOf } from '../../access/subscriptions.ts';
import { isOneLive } from '../../access/live.ts';
import { createPriceReader } from '../../stripe/prices.ts';
import type { AppContext } from '../context.ts';
import { sendPage } from '../page.ts';

/** The pricing page. */
export function pricingRoute(app: FastifyInstance, { config, db, stripe, now }: AppContext): void {
  const prices = createPriceReader(stripe, config.stripe.prices, now);
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
}
