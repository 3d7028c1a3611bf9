import { badRequest } from '../api-error.ts';
import { buildCheckout } from '../build-objects.ts';
import { expireCheckout, expireIfDue } from '../checkouts.ts';
import { page } from '../lists.ts';
import { asParams, needText, needUrl, readMetadata, readText, readUrl, readWhole } from '../params.ts';
import type { Params } from '../params.ts';
import type { Context } from '../sandbox-context.ts';
import type { CheckoutSession, Order } from '../types.ts';
import { find, living } from './routes.ts';
import type { Call, Routes } from './routes.ts';

/** Stripe's own upper limit: https://docs.stripe.com/api/checkout/sessions/create */
const MAX_TRIAL_DAYS = 730;

/** Prices and checkout: https://docs.stripe.com/api/prices and https://docs.stripe.com/api/checkout/sessions */
export function serveCheckout({ get, post }: Routes, context: Context): void {
  const { state, prices, publish } = context;

  get('/prices/:id', ({ id }) => find(prices, id, 'price'));

  post('/checkout/sessions', ({ params, cause }) => {
    const order = readOrder(context, params);
    const customer = readText(params, 'customer') ?? null;
    if (customer !== null) {
      living(state.customers, customer, 'customer');
    }
    const session = buildCheckout(cause.at, context.baseUrl(), order, {
      customer,
      customer_email: readText(params, 'customer_email') ?? null,
      client_reference_id: readText(params, 'client_reference_id') ?? null,
      metadata: readMetadata(params),
      success_url: needUrl(params, 'success_url'),
      cancel_url: readUrl(params, 'cancel_url') ?? null,
      message: readText(asParams(asParams(params['custom_text'])['submit']), 'message') ?? null,
    });
    state.checkouts.set(session.id, session);
    state.orders.set(session.id, { ...order, id: session.id });
    context.save();
    return session;
  });

  get('/checkout/sessions', ({ params, cause }) => {
    for (const session of state.checkouts.values()) {
      void expireIfDue(context, session, cause.at);
    }
    return page(state.checkouts.values(), params, '/v1/checkout/sessions', { status: (one) => one.status });
  });

  get('/checkout/sessions/:id', currentSession);

  post('/checkout/sessions/:id/expire', (call) => {
    const session = currentSession(call);
    if (session.status !== 'open') {
      throw badRequest(`Only Checkout Sessions that are open can be expired; this one is ${session.status}.`);
    }
    void publish(expireCheckout(session, call.cause));
    return session;
  });

  function currentSession({ id, cause }: Call): CheckoutSession {
    const session = find(state.checkouts, id, 'checkout.session');
    void expireIfDue(context, session, cause.at);
    return session;
  }
}

/** Reads what a new checkout sells: one unit of one price, optionally after a trial. */
function readOrder(context: Context, params: Params): Order {
  const mode = needText(params, 'mode');
  if (mode !== 'subscription') {
    throw badRequest(`The sandbox supports only mode=subscription, not mode=${mode}.`, undefined, 'mode');
  }
  const items = Object.values(asParams(params['line_items'])).map(asParams);
  const [item = {}] = items;
  const priceId = needText(item, 'price', 'line_items[0][price]');
  if (items.length > 1) {
    throw badRequest('The sandbox supports one line item per checkout.', undefined, 'line_items');
  }
  const price = find(context.prices, priceId, 'price', 'line_items[0][price]');
  const forSubscription = asParams(params['subscription_data']);
  return {
    price,
    trialDays: readWhole(forSubscription, 'trial_period_days', { min: 1, max: MAX_TRIAL_DAYS }) ?? 0,
    metadata: readMetadata(forSubscription),
    percentOff: 0,
    incompleteSubscription: null,
  };
}
