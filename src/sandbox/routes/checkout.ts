import { expireCheckout, expireIfDue } from '../checkouts.ts';
import type { Context } from '../context.ts';
import { badRequest } from '../errors.ts';
import { filterBy, newestFirst, page } from '../lists.ts';
import { buildCheckout } from '../objects.ts';
import {
  asParams,
  needText,
  needUrl,
  readChoice,
  readMetadata,
  readText,
  readUrl,
  readWhole,
} from '../params.ts';
import type { Params } from '../params.ts';
import type { CheckoutSession, MissingPaymentMethod, Order } from '../types.ts';
import { find, living } from './routes.ts';
import type { Call, Routes } from './routes.ts';

/** Stripe's own upper limits: https://docs.stripe.com/api/checkout/sessions/create */
const MAX_TRIAL_DAYS = 730;
const MAX_QUANTITY = 1_000_000;

const COLLECTIONS: readonly CheckoutSession['payment_method_collection'][] = ['always', 'if_required'];
const WITHOUT_PAYMENT_METHOD: readonly MissingPaymentMethod[] = ['create_invoice', 'pause', 'cancel'];

/** Checkout: https://docs.stripe.com/api/checkout/sessions */
export function serveCheckout({ get, post }: Routes, context: Context): void {
  const { state, publish } = context;

  post('/checkout/sessions', ({ params, cause }) => {
    const order = readOrder(context, params);
    const customer = readText(params, 'customer') ?? null;
    if (customer !== null) {
      living(state.customers, customer, 'customer');
    }
    const coupon = state.coupons.get(order.coupon ?? '') ?? null;
    const session = buildCheckout(cause.at, context.baseUrl(), order, coupon, {
      customer,
      customer_email: readText(params, 'customer_email') ?? null,
      client_reference_id: readText(params, 'client_reference_id') ?? null,
      metadata: readMetadata(params),
      success_url: needUrl(params, 'success_url'),
      cancel_url: readUrl(params, 'cancel_url') ?? null,
      payment_method_collection: readChoice(params, 'payment_method_collection', COLLECTIONS) ?? 'always',
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
    const wanted = filterBy<CheckoutSession>(params, {
      customer: (one) => one.customer,
      status: (one) => one.status,
      subscription: (one) => one.subscription,
    });
    return page(newestFirst(state.checkouts.values()).filter(wanted), params, '/v1/checkout/sessions');
  });

  get('/checkout/sessions/:id', openOrNot);

  post('/checkout/sessions/:id/expire', (call) => {
    const session = openOrNot(call);
    if (session.status !== 'open') {
      throw badRequest(`Only Checkout Sessions that are open can be expired; this one is ${session.status}.`);
    }
    void publish(expireCheckout(session, call.cause));
    return session;
  });

  function openOrNot({ id, cause }: Call): CheckoutSession {
    const session = find(state.checkouts, id, 'checkout.session');
    void expireIfDue(context, session, cause.at);
    return session;
  }
}

/** Reads what a new checkout sells: one price in any quantity, optionally with a trial and a discount. */
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
  const discounts = Object.values(asParams(params['discounts'])).map(asParams);
  const coupon = readText(discounts[0] ?? {}, 'coupon') ?? null;
  if (discounts.length > 1 || (discounts.length === 1 && coupon === null)) {
    throw badRequest(
      'The sandbox supports one discount per checkout, given by its coupon.',
      undefined,
      'discounts',
    );
  }
  if (coupon !== null) {
    find(context.state.coupons, coupon, 'coupon', 'discounts[0][coupon]');
  }
  const forSubscription = asParams(params['subscription_data']);
  const endBehavior = asParams(asParams(forSubscription['trial_settings'])['end_behavior']);
  return {
    price,
    quantity: readWhole(item, 'quantity', { min: 1, max: MAX_QUANTITY }) ?? 1,
    trialDays: readWhole(forSubscription, 'trial_period_days', { min: 1, max: MAX_TRIAL_DAYS }) ?? 0,
    metadata: readMetadata(forSubscription),
    coupon,
    missingPaymentMethod:
      readChoice(endBehavior, 'missing_payment_method', WITHOUT_PAYMENT_METHOD) ?? 'create_invoice',
    incompleteSubscription: null,
  };
}
