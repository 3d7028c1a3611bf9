import type { FastifyInstance } from 'fastify';
import * as z from 'zod';

import { describeUser } from '../access/overview.ts';
import { subscriptionsOf } from '../access/subscriptions.ts';
import { isOneLive } from '../stripe/portal.ts';
import { createPriceReader } from '../stripe/prices.ts';
import { answers, json } from './api.ts';
import type { AppContext } from './context.ts';
import { setFlash } from './cookies.ts';
import { HttpError } from './errors.ts';
import { sendPage } from './page.ts';
import { followInvitation } from './visitor.ts';
import { tellCreditNews } from './settings/credit-news.ts';
import { settingsRoutes } from './settings/settings.ts';

const overview = z
  .object({
    id: z.string(),
    email: z.string(),
    tier: z.enum(['free', 'trial', 'paid']).meta({ description: "What the account's subscriptions say." }),
    creditUntil: z
      .date()
      .nullable()
      .meta({ description: 'When credit would run out if it ran from now on; null when none is left.' }),
    creditHeld: z.boolean().meta({ description: 'There is credit, and it stands still while they pay.' }),
    creditDays: z.int().meta({ description: 'Days of credit left, rounded up.' }),
    access: z.object({
      granted: z.boolean(),
      until: z.date().nullable().meta({ description: 'When the reason ends, as far as that is known.' }),
      reason: z.enum(['paid', 'trial', 'credit']).nullable(),
    }),
    referral: z.object({
      code: z.string(),
      url: z.string().meta({ description: 'The link that invites friends.' }),
      invited: z.int().meta({ description: 'Friends who signed up with it.' }),
      converted: z.int().meta({ description: 'Of these, who paid, and whose payment stands.' }),
      activeCredits: z.int().meta({ description: 'Of these, who were credited in the last 45 days.' }),
    }),
    subscription: z
      .object({
        status: z.string().meta({ description: "Stripe's own word." }),
        plan: z.enum(['monthly', 'annual']).nullable().meta({ description: 'Null: the price is not ours.' }),
        currentPeriodEnd: z.date().nullable(),
        cancelAt: z.date().nullable(),
        cancelAtPeriodEnd: z.boolean().meta({ description: 'It ends with the current period.' }),
        trialEnd: z.date().nullable(),
      })
      .nullable()
      .meta({ description: 'The one that gives the tier, else the newest; null when there never was one.' }),
  })
  .meta({ id: 'Account' });

const ME = {
  tags: ['Account'],
  summary: 'The account that is logged in',
  security: [{ session: [] }],
  response: answers({ 200: json('The account.', overview) }, { 401: null }),
};

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

  app.get('/api/me', { schema: ME }, async (request) => {
    if (!request.user) throw new HttpError(401, 'unauthorized', 'Log in first.');
    const subscriptions = await subscriptionsOf(db, request.user.id);
    return describeUser(db, request.user, subscriptions, place, now());
  });

  settingsRoutes(app, context, place);
  tellCreditNews(app, context);
}
