import type { FastifyInstance, FastifyReply } from 'fastify';
import { z } from 'zod';

import type { User } from '../db/generated/client.ts';
import type { AppContext } from '../web/context.ts';
import { HttpError } from '../web/errors.ts';
import { askStripe } from '../web/ask-stripe.ts';
import { limitedByAccount } from '../web/limits.ts';
import { sendToLogIn } from '../web/log-in-first.ts';
import { openCheckout } from './checkout.ts';
import { subscriptionsOf } from './facts/subscriptions.ts';
import { isOneLive, openPortal } from './portal.ts';
import type { BillingContext } from './stripe-customer.ts';

const checkoutForm = z.object({ plan: z.enum(['monthly', 'annual']) });

/**
 * Checkout and portal: both lead to Stripe.
 *
 * @param app the scope of the pages
 * @param context what the server is built from
 */
export function billingRoutes(app: FastifyInstance, context: AppContext): void {
  const { config, db } = context;

  function billing(): BillingContext {
    if (!context.stripe) throw notSetUp('STRIPE_API_KEY');
    return { db, stripe: context.stripe, config: config.stripe, publicUrl: config.publicUrl };
  }

  app.post(
    '/api/billing/checkout',
    { onRequest: limitedByAccount('checkoutsOfAccount') },
    async (request, reply) => {
      if (!request.user) return sendToLogIn(request, reply);
      const form = checkoutForm.safeParse(request.body);
      if (!form.success) throw new HttpError(400, 'bad_plan', 'Choose a plan: monthly or annual.');
      if (isOneLive(await subscriptionsOf(db, request.user.id)))
        return toPortal(reply, billing(), request.user);

      const { plan } = form.data;
      const priceId = config.stripe.prices[plan];
      if (!priceId) throw notSetUp(`STRIPE_PRICE_${plan.toUpperCase()}`);
      const user = request.user;
      const url = await askStripe(() => openCheckout(billing(), user, plan, priceId, context.now()));
      // Paid already: Settings waits for the webhook.
      return reply.redirect(url ?? '/settings?checkout=done', 303);
    },
  );

  app.post(
    '/api/billing/portal',
    { onRequest: limitedByAccount('portalsOfAccount') },
    async (request, reply) => {
      if (!request.user) return sendToLogIn(request, reply);
      return toPortal(reply, billing(), request.user);
    },
  );
}

async function toPortal(reply: FastifyReply, billing: BillingContext, user: User): Promise<FastifyReply> {
  const url = await askStripe(() => openPortal(billing, user));
  return reply.redirect(url ?? '/pricing', 303);
}

function notSetUp(variable: string): HttpError {
  return new HttpError(
    503,
    'not_set_up',
    `Payments are not set up on this server yet: ${variable} is not set.`,
  );
}
