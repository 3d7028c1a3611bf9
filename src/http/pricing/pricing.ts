import type { FastifyInstance } from 'fastify';

import { creditView } from '../../access/access.ts';
import { anyLiveAndKnown } from '../../access/live.ts';
import { currentOf, planOf } from '../../access/overview.ts';
import { wholeSeconds } from '../../instants.ts';
import { createPriceReader } from '../../stripe/prices.ts';
import type { AppContext } from '../context.ts';
import { awaitsFirstPayment } from '../invitation.ts';
import { sendPage } from '../page.ts';
import { readSubscriptions } from '../subscriptions.ts';

/** The pricing page. */
export function pricingRoute(app: FastifyInstance, context: AppContext): void {
  const { config, db, stripe, now } = context;
  const prices = createPriceReader(stripe, config.stripe.prices, now);
  app.get('/pricing', async (request, reply) => {
    const texts = await prices();
    const { user } = request;
    const subscriptions = user ? await readSubscriptions(context, request, user) : [];
    const live = anyLiveAndKnown(subscriptions);
    const current = currentOf(subscriptions);
    return sendPage(request, reply, 'pricing', {
      title: 'Pricing',
      plans: [
        { plan: 'monthly', name: 'Monthly', price: texts.monthly, interval: 'month' },
        { plan: 'annual', name: 'Annual', price: texts.annual, interval: 'year', saving: texts.saving },
      ],
      billing: user ? (live ? 'manage' : 'upgrade') : 'logged-out',
      currentPlan:
        user && (current && (live || user.tier !== 'free') ? planOf(current, config.stripe.prices) : 'free'),
      isInvited: user !== null && (await awaitsFirstPayment(db, user.id, subscriptions)),
      credit: user && creditView(user, wholeSeconds(now())),
      missing: current !== null && current.missingAt !== null,
      trialDays: config.stripe.trialDays,
      clawbackDays: config.clawbackDays,
    });
  });
}
