import type { FastifyError, FastifyInstance, FastifyRequest } from 'fastify';

import { cancelNow, deleteCustomer, expireCheckout, hasEnded, subscriptionsOf } from './billing.ts';
import { expireIfDue } from './checkouts.ts';
import type { Context } from './context.ts';
import { StripeApiError, badRequest, missing } from './errors.ts';
import type { Cause } from './events.ts';
import { answerOnce } from './idempotency.ts';
import { createdFilter, page } from './lists.ts';
import { buildCheckout, buildCustomer, buildPortal } from './objects.ts';
import { asParams, needText, needUrl, readMetadata, readText, readUrl, readWhole } from './params.ts';
import type { Params } from './params.ts';
import { toEpoch } from './time.ts';
import type { CheckoutSession, Customer, DeletedCustomer, Order } from './types.ts';

/** Stripe's own upper limits: https://docs.stripe.com/api/checkout/sessions/create */
const MAX_TRIAL_DAYS = 730;
const MAX_QUANTITY = 1_000_000;

/** What a route is given: ids of the path, decoded parameters, and who asks when. */
interface Call {
  id: string;
  params: Params;
  cause: Cause;
}

/**
 * Serves the part of Stripe's API that a subscription business needs. Parameters that it does not know are
 * ignored, those that it knows are checked. See https://docs.stripe.com/api
 *
 * @param app a Fastify scope of its own, mounted at `/v1`, whose bodies and queries are decoded bracket by bracket
 * @param context what the routes work with
 */
export function serveApi(app: FastifyInstance, context: Context): void {
  const { options, state, prices, publish } = context;

  app.addHook('onRequest', async (request, reply) => {
    reply.header('request-id', request.id);
    const version = request.headers['stripe-version'];
    if (version !== undefined) {
      reply.header('stripe-version', version);
    }
    if (!isAuthorized(request.headers.authorization, options.apiKey)) {
      throw new StripeApiError(401, {
        type: 'invalid_request_error',
        message: 'Invalid API Key provided. The sandbox takes only the key that it was started with.',
      });
    }
  });

  app.setErrorHandler<FastifyError | StripeApiError>((error, _request, reply) => {
    if (error instanceof StripeApiError) {
      return reply.code(error.status).send({ error: error.details });
    }
    const status = error.statusCode ?? 500;
    if (status >= 500) {
      options.log(`sandbox: ${error.stack ?? error.message}`);
    }
    const type = status < 500 ? 'invalid_request_error' : 'api_error';
    return reply.code(status).send({ error: { type, message: error.message } });
  });

  app.setNotFoundHandler((request) => {
    throw new StripeApiError(404, {
      type: 'invalid_request_error',
      message: `Unrecognized request URL (${request.method}: ${request.url}).`,
    });
  });

  function call(request: FastifyRequest): Call {
    const key = request.headers['idempotency-key'];
    return {
      id: readText(asParams(request.params), 'id') ?? '',
      params: asParams(request.method === 'POST' ? request.body : request.query),
      cause: {
        at: toEpoch(options.now()),
        requestId: request.id,
        idempotencyKey: typeof key === 'string' && request.method === 'POST' ? key : null,
      },
    };
  }

  function get(path: string, answer: (call: Call) => object): void {
    app.get(path, (request) => Promise.resolve(answer(call(request))));
  }

  function del(path: string, answer: (call: Call) => object): void {
    app.delete(path, (request) => Promise.resolve(answer(call(request))));
  }

  function post(path: string, act: (call: Call) => object): void {
    app.post(path, (request, reply) => {
      const one = call(request);
      const { at, idempotencyKey } = one.cause;
      if (idempotencyKey === null) {
        return reply.send(act(one));
      }
      const keyed = { key: idempotencyKey, path: request.url, params: one.params, at };
      const { body, replayed } = answerOnce(state, keyed, () => act(one));
      context.save();
      if (replayed) {
        reply.header('idempotent-replayed', 'true');
      }
      return reply.header('idempotency-key', idempotencyKey).send(body);
    });
  }

  // Customers: https://docs.stripe.com/api/customers

  post('/customers', ({ params, cause }) => {
    const customer = buildCustomer(cause.at, {
      email: readText(params, 'email') ?? null,
      name: readText(params, 'name') ?? null,
      description: readText(params, 'description') ?? null,
      metadata: readMetadata(params),
    });
    state.customers.set(customer.id, customer);
    context.save();
    return customer;
  });

  get('/customers/:id', ({ id }) => find(state.customers, id, 'customer'));

  del('/customers/:id', ({ id, cause }) => {
    void publish(deleteCustomer(state, living(state.customers, id), cause));
    return find(state.customers, id, 'customer');
  });

  // Prices: https://docs.stripe.com/api/prices

  get('/prices', ({ params }) => page([...prices.values()], params, '/v1/prices'));

  get('/prices/:id', ({ id }) => find(prices, id, 'price'));

  // Checkout: https://docs.stripe.com/api/checkout/sessions

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
    });
    state.checkouts.set(session.id, session);
    state.orders.set(session.id, { ...order, id: session.id });
    context.save();
    return session;
  });

  get('/checkout/sessions/:id', ({ id, cause }) =>
    openOrNot(find(state.checkouts, id, 'checkout.session'), cause),
  );

  post('/checkout/sessions/:id/expire', ({ id, cause }) => {
    const session = openOrNot(find(state.checkouts, id, 'checkout.session'), cause);
    if (session.status !== 'open') {
      throw badRequest(`Only Checkout Sessions that are open can be expired; this one is ${session.status}.`);
    }
    void publish(expireCheckout(session, cause));
    return session;
  });

  function openOrNot(session: CheckoutSession, cause: Cause): CheckoutSession {
    void expireIfDue(context, session, cause);
    return session;
  }

  // Subscriptions and invoices: https://docs.stripe.com/api/subscriptions

  get('/subscriptions', ({ params }) => {
    const customer = readText(params, 'customer');
    const status = readText(params, 'status');
    const newestFirst =
      customer === undefined ? [...state.subscriptions.values()].reverse() : subscriptionsOf(state, customer);
    // Without a status Stripe lists all but the canceled ones.
    const wanted = newestFirst.filter(
      (one) => status === 'all' || (status === undefined ? !hasEnded(one) : one.status === status),
    );
    return page(wanted, params, '/v1/subscriptions');
  });

  get('/subscriptions/:id', ({ id }) => find(state.subscriptions, id, 'subscription'));

  del('/subscriptions/:id', ({ id, cause }) => {
    const subscription = find(state.subscriptions, id, 'subscription');
    if (hasEnded(subscription)) {
      // Stripe, too, treats one that has ended as one that it cannot find.
      throw missing('subscription', id);
    }
    void publish(cancelNow(subscription, cause));
    return subscription;
  });

  get('/invoices/:id', ({ id }) => find(state.invoices, id, 'invoice'));

  // The customer portal: https://docs.stripe.com/api/customer_portal/sessions

  post('/billing_portal/sessions', ({ params, cause }) => {
    const customer = living(state.customers, needText(params, 'customer'), 'customer');
    const returnUrl = readUrl(params, 'return_url') ?? null;
    const portal = buildPortal(cause.at, context.baseUrl(), customer.id, returnUrl);
    state.portals.set(portal.id, portal);
    context.save();
    return portal;
  });

  // Events: https://docs.stripe.com/api/events

  get('/events', ({ params }) => {
    const type = readText(params, 'type');
    const types = Object.values(asParams(params['types']));
    const inTime = createdFilter(params);
    const delivered = readText(params, 'delivery_success');
    const wanted = [...state.events.values()]
      .reverse()
      .filter((event) => type === undefined || event.type === type)
      .filter((event) => types.length === 0 || types.includes(event.type))
      .filter((event) => delivered === undefined || (event.pending_webhooks === 0) === (delivered === 'true'))
      .filter((event) => inTime(event.created));
    return page(wanted, params, '/v1/events');
  });

  get('/events/:id', ({ id }) => find(state.events, id, 'event'));
}

/** Bearer, or Basic with the key as user name: https://docs.stripe.com/api/authentication */
function isAuthorized(header: string | undefined, apiKey: string): boolean {
  const basic = Buffer.from(`${apiKey}:`).toString('base64');
  return header === `Bearer ${apiKey}` || header === `Basic ${basic}`;
}

function find<T>(things: Map<string, T>, id: string, noun: string): T {
  const thing = things.get(id);
  if (thing === undefined) {
    throw missing(noun, id);
  }
  return thing;
}

/** A customer who is not deleted; `param` is the parameter that named them, if the path did not. */
function living(customers: Map<string, Customer | DeletedCustomer>, id: string, param?: string): Customer {
  const customer = customers.get(id);
  if (customer === undefined || 'deleted' in customer) {
    throw missing('customer', id, param);
  }
  return customer;
}

/** Reads what a new checkout sells: one price, any quantity, perhaps a trial first. */
function readOrder(context: Context, params: Params): Order {
  const mode = needText(params, 'mode');
  if (mode !== 'subscription') {
    throw badRequest(`The sandbox sells subscriptions only, not mode=${mode}.`, undefined, 'mode');
  }
  const items = Object.values(asParams(params['line_items'])).map(asParams);
  const [item = {}] = items;
  const priceId = needText(item, 'price', 'line_items[0][price]');
  if (items.length > 1) {
    throw badRequest('The sandbox takes one line item a checkout.', undefined, 'line_items');
  }
  const price = context.prices.get(priceId);
  if (price === undefined) {
    throw missing('price', priceId, 'line_items[0][price]');
  }
  const forSubscription = asParams(params['subscription_data']);
  return {
    price,
    quantity: readWhole(item, 'quantity', { min: 1, max: MAX_QUANTITY }) ?? 1,
    trialDays: readWhole(forSubscription, 'trial_period_days', { min: 1, max: MAX_TRIAL_DAYS }) ?? 0,
    metadata: readMetadata(forSubscription),
  };
}
