import type { FastifyInstance, FastifyReply } from 'fastify';
import type { ZodTypeProvider } from 'fastify-type-provider-zod';
import * as z from 'zod';

import type { User } from '../../db/generated/client.ts';
import { answers, nothing } from '../api.ts';
import type { AppContext } from '../context.ts';
import { HttpError } from '../errors.ts';
import { askStripe } from '../ask-stripe.ts';
import { limitedByAccount } from '../limits.ts';
import { sendToLogIn } from '../log-in-first.ts';
import { CheckoutImpossible, openCheckout } from '../../stripe/checkout.ts';
import { subscriptionsOf } from '../../access/subscriptions.ts';
import { programmeOf } from '../../stripe/handle-event.ts';
import { isLive } from '../../access/live.ts';
import { isOneLiveAtStripe, openPortal } from '../../stripe/portal.ts';
import type { BillingContext } from '../../stripe/ensure-customer.ts';

const STRIPE_FAILED = 'Stripe cannot be reached, or refuses.';

const CHECKOUT = {
  tags: ['Billing'],
  summary: 'Buy a plan',
  description:
    'Opens a checkout at Stripe, or the customer portal if the account has a subscription already.',
  security: [{ session: [] }],
  consumes: ['application/x-www-form-urlencoded', 'application/json'],
  body: z.object({ plan: z.enum(['monthly', 'annual']) }),
  response: answers(
    {
      303: nothing(
        "A redirect to Stripe's checkout or customer portal; to /login if nobody is logged in and the client accepts HTML.",
      ),
    },
    { 401: null, 409: 'Another window opened a checkout at the same moment.', 502: STRIPE_FAILED },
  ),
};

const PORTAL = {
  tags: ['Billing'],
  summary: 'Manage the subscription',
  description: "Opens Stripe's customer portal.",
  security: [{ session: [] }],
  response: answers(
    {
      303: nothing(
        "A redirect to Stripe's customer portal; to /pricing if there is no customer yet; to /login if nobody is logged in and the client accepts HTML.",
      ),
    },
    { 401: null, 502: STRIPE_FAILED },
  ),
};

/** Checkout and portal. Both redirect to Stripe. */
export function billingRoutes(app: FastifyInstance, context: AppContext): void {
  const { config, db } = context;
  const typed = app.withTypeProvider<ZodTypeProvider>();

  function billing(): BillingContext {
    if (!context.stripe) throw notSetUp('STRIPE_API_KEY');
    const { stripe, publicUrl } = config;
    return { db, stripe: context.stripe, config: stripe, publicUrl, programme: programmeOf(config) };
  }

  typed.post(
    '/api/billing/checkout',
    { schema: CHECKOUT, attachValidation: true, onRequest: limitedByAccount('checkoutsOfAccount') },
    async (request, reply) => {
      if (!request.user) return sendToLogIn(request, reply);
      // Validate only now: someone who is not logged in must log in first, whatever they sent.
      if (request.validationError) throw new HttpError(400, 'bad_plan', 'Choose a plan: monthly or annual.');
      const { user } = request;
      const subscriptions = await subscriptionsOf(db, user.id);
      if (subscriptions.some(isLive)) {
        const isManaged = await askStripe(() => isOneLiveAtStripe(billing(), subscriptions, context.now()));
        if (isManaged) return toPortal(reply, billing(), user, context.now());
      }
      const { plan } = request.body;
      const priceId = config.stripe.prices[plan];
      if (!priceId) throw notSetUp(`STRIPE_PRICE_${plan.toUpperCase()}`);
      try {
        const url = await askStripe(() => openCheckout(billing(), user, plan, priceId, context.now()));
        // Already paid: Settings waits for the webhook.
        return await reply.redirect(url ?? '/settings?checkout=done', 303);
      } catch (error) {
        if (!(error instanceof CheckoutImpossible)) throw error;
        if (error.reason === 'account-deleted') return sendToLogIn(request, reply);
        throw new HttpError(
          409,
          'checkout_replaced',
          'Another window opened a checkout just now. Please try again.',
        );
      }
    },
  );

  app.post(
    '/api/billing/portal',
    { schema: PORTAL, onRequest: limitedByAccount('portalsOfAccount') },
    async (request, reply) => {
      if (!request.user) return sendToLogIn(request, reply);
      return toPortal(reply, billing(), request.user, context.now());
    },
  );
}

async function toPortal(
  reply: FastifyReply,
  billing: BillingContext,
  user: User,
  now: Date,
): Promise<FastifyReply> {
  const url = await askStripe(() => openPortal(billing, user, now));
  return reply.redirect(url ?? '/pricing', 303);
}

function notSetUp(variable: string): HttpError {
  return new HttpError(
    503,
    'not_set_up',
    `Payments are not set up on this server yet: ${variable} is not set.`,
  );
}
