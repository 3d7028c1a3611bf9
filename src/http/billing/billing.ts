import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import type { ZodTypeProvider } from 'fastify-type-provider-zod';
import * as z from 'zod';

import { isLive } from '../../access/live.ts';
import { subscriptionsOf } from '../../access/subscriptions.ts';
import { findSession } from '../../accounts/sessions.ts';
import { PLANS } from '../../config.ts';
import type { Plan } from '../../config.ts';
import type { User } from '../../db/generated/client.ts';
import { programmeOf } from '../../programme.ts';
import { CheckoutImpossible, openCheckout } from '../../stripe/checkout.ts';
import type { BillingContext } from '../../stripe/ensure-customer.ts';
import { anyLiveAtStripe, openPortal } from '../../stripe/portal.ts';
import { answers, nothing } from '../api.ts';
import { askStripe } from '../ask-stripe.ts';
import type { AppContext } from '../context.ts';
import { setFlash } from '../cookies.ts';
import { errorToLog, HttpError, NOT_SET_UP } from '../errors.ts';
import { limitedByAccount, takeForAccount } from '../limits.ts';
import { sendToLogIn } from '../log-in-first.ts';

const STRIPE_FAILED = 'Stripe refused, or could not be reached.';

const PAYMENT_PENDING = new HttpError(
  409,
  'payment_pending',
  'Your last payment is still being processed. Please try again in a few minutes.',
);

const CHECKOUT = {
  tags: ['Billing'],
  summary: 'Buy a plan',
  description:
    'Opens a checkout at Stripe, or the customer portal if the account has a subscription already.',
  security: [{ session: [] }],
  consumes: ['application/x-www-form-urlencoded', 'application/json'],
  body: z.object({ plan: z.enum(PLANS) }),
  response: answers(
    {
      303: nothing(
        "A redirect to Stripe's checkout or customer portal; to /settings?checkout=done if the last checkout has just been completed; to /pricing if Stripe no longer knows the customer; to /login if nobody is logged in and the client accepts HTML.",
      ),
    },
    {
      401: null,
      409: 'Another window opened a checkout at the same moment, or the last payment is still being processed.',
      502: STRIPE_FAILED,
    },
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
        "A redirect to Stripe's customer portal; to /pricing if the account has no customer that the portal can be opened for; to /login if nobody is logged in and the client accepts HTML.",
      ),
    },
    { 401: null, 502: STRIPE_FAILED },
  ),
};

/** Checkout and portal. Both redirect to Stripe. */
export function billingRoutes(app: FastifyInstance, context: AppContext): void {
  const typed = app.withTypeProvider<ZodTypeProvider>();

  typed.post(
    '/api/billing/checkout',
    { schema: CHECKOUT, attachValidation: true, onRequest: limitedByAccount('checkoutsOfAccount') },
    async (request, reply) => {
      const plan = planIn(request.body);
      if (!request.user) return sendToLogIn(request, reply, plan);
      // Validate only now: someone who is not logged in must log in first, whatever they sent.
      if (request.validationError) throw new HttpError(400, 'bad_plan', 'Choose a plan: monthly or annual.');
      try {
        const url = await checkoutUrl(context, request.user, request.body.plan);
        return await redirectTo(request, reply, url);
      } catch (error) {
        if (error instanceof CheckoutImpossible) return sendToLogIn(request, reply, plan);
        throw error;
      }
    },
  );

  app.post(
    '/api/billing/portal',
    { schema: PORTAL, onRequest: limitedByAccount('portalsOfAccount') },
    async (request, reply) => {
      if (!request.user) return sendToLogIn(request, reply);
      return redirectTo(request, reply, await portalUrl(billingOf(context), request.user, context.now()));
    },
  );
}

/**
 * Where a user buys a plan: Stripe's checkout, or the customer portal when they have a plan. Settings when they have
 * just completed a checkout and its webhook is still to come. Null when the portal cannot be opened.
 *
 * @throws HttpError when payments are not set up, Stripe refuses or cannot be reached, an earlier payment is still being
 *   processed, or other windows keep replacing the checkout
 * @throws CheckoutImpossible when the account was deleted or shut out, or its password changed, meanwhile
 */
async function checkoutUrl(context: AppContext, user: User, plan: Plan): Promise<string | null> {
  const billing = billingOf(context);
  const subscriptions = await subscriptionsOf(context.db, user.id);
  const live = subscriptions.filter(isLive);
  if (live.length > 0) {
    const isManaged = await askStripe('Nothing was charged.', () =>
      anyLiveAtStripe(billing, live, context.now()),
    );
    if (isManaged) return portalUrl(billing, user, context.now());
  }
  const priceId = context.config.stripe.prices[plan];
  if (!priceId) throw notSetUp(`STRIPE_PRICE_${plan.toUpperCase()}`);
  try {
    const url = await askStripe('Nothing was charged.', () =>
      openCheckout(billing, user, { plan, priceId, notAtStripe: live.map(({ id }) => id) }, context.now()),
    );
    return url ?? '/settings?checkout=done';
  } catch (error) {
    if (!(error instanceof CheckoutImpossible) || error.reason === 'account-changed') throw error;
    if (error.reason === 'subscribed') return portalUrl(billing, user, context.now());
    if (error.reason === 'payment-pending') throw PAYMENT_PENDING;
    throw new HttpError(
      409,
      'checkout_replaced',
      'Another window opened a checkout just now. Please try again.',
    );
  }
}

/**
 * Goes on to the checkout for the plan that somebody chose before they signed up or logged in, or to Settings when they
 * chose none. They are logged in already, so if the checkout cannot be opened, the pricing page says so.
 *
 * @param token of the session that was just opened
 */
export async function continueToPlan(
  context: AppContext,
  request: FastifyRequest,
  reply: FastifyReply,
  token: string,
): Promise<FastifyReply> {
  const plan = planIn(request.body);
  const session = plan && (await findSession(context.db, context.sessionSecret, token, context.now()));
  if (!plan || !session) return reply.redirect('/settings', 303);
  request.user = session.user;
  try {
    if (await takeForAccount(request, null, 'checkoutsOfAccount'))
      return await redirectTo(request, reply, await checkoutUrl(context, session.user, plan));
  } catch (error) {
    if (error === PAYMENT_PENDING) {
      setFlash(request, reply, 'payment-pending');
      return reply.redirect('/pricing', 303);
    }
    request.log.error({ err: errorToLog(error) }, 'no checkout could be opened after a login or sign-up');
  }
  setFlash(request, reply, 'no-checkout');
  return reply.redirect('/pricing', 303);
}

/** The plan that a form or an address names; null when it names none. */
export function planIn(input: unknown): Plan | null {
  return z.object({ plan: z.enum(PLANS) }).safeParse(input).data?.plan ?? null;
}

function billingOf({ config, db, stripe }: AppContext): BillingContext {
  if (!stripe) throw notSetUp('STRIPE_API_KEY');
  return { db, stripe, config: config.stripe, publicUrl: config.publicUrl, programme: programmeOf(config) };
}

/** @param url null when there is no customer to open the portal for */
function redirectTo(request: FastifyRequest, reply: FastifyReply, url: string | null): FastifyReply {
  if (url === null) setFlash(request, reply, 'nothing-at-stripe');
  return reply.redirect(url ?? '/pricing', 303);
}

async function portalUrl(billing: BillingContext, user: User, now: Date): Promise<string | null> {
  return askStripe('Nothing was changed.', () => openPortal(billing, user, now));
}

function notSetUp(variable: string): HttpError {
  return new HttpError(
    503,
    NOT_SET_UP,
    `Payments are not set up on this server yet: ${variable} is not set.`,
  );
}
