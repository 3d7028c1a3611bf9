import { readFileSync } from 'node:fs';
import { join } from 'node:path';

import { Eta } from 'eta';
import type { FastifyError, FastifyInstance, FastifyReply } from 'fastify';

import { bankActs, lastDispute, lastPayment } from './bank.ts';
import { expireIfDue, payCheckout } from './checkouts.ts';
import type { Context } from './context.ts';
import type { Cause } from './events.ts';
import { formatMoney } from './money.ts';
import { asParams, readText } from './params.ts';
import type { State } from './state.ts';
import {
  cancelAtPeriodEnd,
  cancelNow,
  cardOf,
  currentPeriodEnd,
  hasEnded,
  letTimePass,
  subscriptionsOf,
  waitingInvoice,
} from './subscriptions.ts';
import { toEpoch } from './time.ts';
import { ROOT } from '../root.ts';
import type {
  Charge,
  CheckoutSession,
  Dispute,
  PortalSession,
  Price,
  StripeEvent,
  Subscription,
} from './types.ts';

/** How long a page waits for webhooks before it redirects the browser, ms. */
const PATIENCE = 1500;

const views = join(ROOT, 'src/sandbox/views');
const stylesheet = readFileSync(`${views}/sandbox.css`, 'utf8');
const eta = new Eta({ views, cache: true });

/**
 * Serves the pages that Stripe shows to people: the checkout and the customer portal. As at Stripe, they need
 * no login, because the address contains an unguessable id.
 *
 * @param app a Fastify scope whose form bodies are parsed
 */
export function servePages(app: FastifyInstance, context: Context): void {
  const { state } = context;

  app.get('/sandbox.css', (_request, reply) => reply.type('text/css; charset=utf-8').send(stylesheet));

  app.setNotFoundHandler((_request, reply) => sendMessage(reply, 404, 'There is nothing at this address.'));

  app.setErrorHandler<FastifyError>((error, _request, reply) => {
    const status = error.statusCode ?? 500;
    if (status >= 500) {
      context.options.log(`sandbox: ${error.stack ?? error.message}`);
    }
    return sendMessage(reply, status, status < 500 ? error.message : 'The sandbox failed; its log says why.');
  });

  app.get<{ Params: { id: string } }>('/checkout/:id', async (request, reply) => {
    const session = state.checkouts.get(request.params.id);
    if (session !== undefined) {
      return showCheckout(reply, session);
    }
    reply.callNotFound();
    return reply;
  });

  app.post<{ Params: { id: string } }>('/checkout/:id', async (request, reply) => {
    const session = state.checkouts.get(request.params.id);
    const order = state.orders.get(request.params.id);
    if (session === undefined || order === undefined) {
      reply.callNotFound();
      return reply;
    }
    await inTime(expireIfDue(context, session, byPerson(context).at));
    const outcome = readText(asParams(request.body), 'outcome');
    if (outcome === 'cancel' && session.cancel_url !== null) {
      return reply.redirect(session.cancel_url, 303);
    }
    if (outcome === 'pay' && session.status === 'complete') {
      return reply.redirect(successUrl(session), 303);
    }
    if (session.status !== 'open') {
      return showCheckout(reply, session);
    }
    if (outcome === 'decline') {
      return showCheckout(reply, session, 'Your card was declined.');
    }
    if (outcome !== 'pay') {
      return sendMessage(reply, 400, 'This button is not one of the checkout’s.');
    }
    const events = payCheckout(state, session, order, 'paid', byPerson(context));
    if (events === undefined) {
      return showCheckout(reply, session, 'This customer was deleted, so nothing can be sold to them.');
    }
    await inTime(context.publish(events));
    return reply.redirect(successUrl(session), 303);
  });

  app.get<{ Params: { id: string } }>('/portal/:id', (request, reply) => {
    const portal = state.portals.get(request.params.id);
    if (portal !== undefined) {
      return showPortal(reply, portal);
    }
    reply.callNotFound();
    return reply;
  });

  app.post<{ Params: { id: string } }>('/portal/:id', async (request, reply) => {
    const portal = state.portals.get(request.params.id);
    if (portal === undefined) {
      reply.callNotFound();
      return reply;
    }
    const form = asParams(request.body);
    const action = readText(form, 'action');
    if (action === 'return' && portal.return_url !== null) {
      return reply.redirect(portal.return_url, 303);
    }
    const act = PORTAL_ACTIONS.get(action ?? '');
    if (act === undefined && !BANK_ACTIONS.has(action ?? '')) {
      return sendMessage(reply, 400, 'This button is not one of the portal’s.');
    }
    // Without an id, the form means the newest subscription that has not ended.
    const wanted = readText(form, 'subscription');
    const subscription = subscriptionsOf(state, portal.customer).find(
      (one) => !hasEnded(one) && (wanted === undefined || one.id === wanted),
    );
    if (act !== undefined && subscription !== undefined) {
      await inTime(context.publish(act(state, subscription, byPerson(context))));
    }
    // A button of an outdated page does nothing.
    const bankAct = bankActs(state, portal.customer).find((one) => one.action === action);
    if (bankAct !== undefined) {
      await inTime(context.publish(bankAct.act(byPerson(context))));
    }
    // Redirect instead of rendering, so that a reload does not repeat the action.
    return reply.redirect(`/portal/${portal.id}`, 303);
  });

  async function showCheckout(
    reply: FastifyReply,
    session: CheckoutSession,
    problem?: string,
  ): Promise<FastifyReply> {
    await inTime(expireIfDue(context, session, byPerson(context).at));
    const order = state.orders.get(session.id);
    const goOn = successUrl(session);
    return sendPage(reply, problem === undefined ? 200 : 402, 'checkout', [goOn, session.cancel_url], {
      title: 'Checkout',
      session,
      problem,
      successUrl: goOn,
      plan: order?.price.nickname ?? '',
      price: order === undefined ? '' : describePrice(order.price),
      trialDays: order?.trialDays ?? 0,
      today: formatMoney(session.amount_total, session.currency),
    });
  }

  function showPortal(reply: FastifyReply, portal: PortalSession): FastifyReply {
    const { customer } = portal;
    return sendPage(reply, 200, 'portal', [portal.return_url], {
      title: 'Your subscription',
      portal,
      subscriptions: subscriptionsOf(state, customer).map((one) => describeSubscription(state, one)),
      card: CARDS[cardOf(state, customer)],
      payment: describePayment(lastPayment(state, customer)),
      dispute: describeDispute(lastDispute(state, customer)),
      bankActs: bankActs(state, customer),
    });
  }
}

/** What the portal's buttons do to a subscription. */
const PORTAL_ACTIONS = new Map<string, (state: State, one: Subscription, cause: Cause) => StripeEvent[]>([
  ['cancel_now', cancelNow],
  [
    'cancel_at_period_end',
    (_state, one, cause) => (one.status === 'incomplete' ? [] : cancelAtPeriodEnd(one, true, cause)),
  ],
  ['renew_now', letTimePass],
]);

/** The buttons of the bank and of Stripe. */
const BANK_ACTIONS = new Set([
  'card_declined',
  'card_works',
  'refund_last',
  'dispute_open',
  'dispute_lost',
  'dispute_won',
]);

const CARDS = { works: 'works', declined: 'is declined' };

const DISPUTES: Record<Dispute['status'], string> = {
  needs_response: 'open',
  lost: 'lost',
  appeal_under_review: 'lost, under appeal',
  won: 'won',
};

/** An action on a page has no API request behind it, so its events name none. */
function byPerson(context: Context): Cause {
  return { at: toEpoch(context.options.now()), requestId: null, idempotencyKey: null };
}

/**
 * Waits for webhooks so that the next page shows their effect, but does not wait for a receiver that hangs.
 */
async function inTime(delivered: Promise<void>): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  const patience = new Promise<void>((resolve) => {
    timer = setTimeout(resolve, PATIENCE);
  });
  await Promise.race([delivered, patience]);
  clearTimeout(timer);
}

function successUrl(session: CheckoutSession): string {
  return session.success_url.replaceAll('{CHECKOUT_SESSION_ID}', session.id);
}

function describeSubscription(state: State, subscription: Subscription): object {
  const [item] = subscription.items.data;
  const end = subscription.cancel_at ?? currentPeriodEnd(subscription);
  return {
    id: subscription.id,
    plan: item?.price.nickname ?? '',
    price: item === undefined ? '' : describePrice(item.price),
    status: subscription.status,
    ended: subscription.ended_at === null ? undefined : day(subscription.ended_at),
    periodEnd: day(end),
    runsOut: subscription.cancel_at !== null,
    begun: subscription.status !== 'incomplete',
    pass: passLabel(state, subscription),
  };
}

/** Returns the label of the button that lets time pass; undefined when time changes nothing. */
function passLabel(state: State, subscription: Subscription): string | undefined {
  const { status } = subscription;
  const trial = status === 'trialing';
  const interval = subscription.items.data[0]?.price.recurring.interval ?? 'month';
  const span = trial ? 'the trial' : `a ${interval}`;
  const waiting = waitingInvoice(state, subscription);
  if (hasEnded(subscription)) {
    return undefined;
  }
  if (status === 'incomplete') {
    return 'Let a day pass: the unpaid plan expires';
  }
  if (waiting !== undefined) {
    return waiting.status === 'draft'
      ? 'Let an hour pass: the card is charged'
      : 'Let some days pass: the payment is tried again';
  }
  if (subscription.cancel_at_period_end) {
    return `Let ${span} pass: the plan ends`;
  }
  return `Let ${span} pass: the plan ${trial ? 'starts and is charged' : 'renews'}`;
}

function describePayment(charge: Charge | undefined): string | undefined {
  if (charge === undefined) {
    return undefined;
  }
  const { amount, amount_refunded: back, currency } = charge;
  const refunded = back === 0 ? '' : `, ${formatMoney(back, currency)} refunded`;
  return `${formatMoney(amount, currency)} on ${day(charge.created)}${refunded}`;
}

function describeDispute(dispute: Dispute | undefined): string | undefined {
  return dispute === undefined
    ? undefined
    : `${formatMoney(dispute.amount, dispute.currency)}, ${DISPUTES[dispute.status]}`;
}

function describePrice(price: Price): string {
  return `${formatMoney(price.unit_amount, price.currency)} a ${price.recurring.interval}`;
}

function day(epoch: number): string {
  return new Intl.DateTimeFormat('en-GB', { dateStyle: 'long', timeZone: 'UTC' }).format(epoch * 1000);
}

/** Sends a page with one sentence. */
export function sendMessage(reply: FastifyReply, status: number, message: string): FastifyReply {
  return sendPage(reply, status, 'message', [], { title: 'Sandbox', message });
}

/**
 * @param targets addresses that the page's forms may redirect to; browsers check redirects against the CSP
 *   too
 */
export function sendPage(
  reply: FastifyReply,
  status: number,
  view: string,
  targets: (string | null)[],
  data: object,
): FastifyReply {
  const origins = targets.filter((url) => url !== null).map((url) => new URL(url).origin);
  const policy = [
    "default-src 'none'",
    "style-src 'self'",
    "frame-src 'self'",
    `form-action ${["'self'", ...new Set(origins)].join(' ')}`,
    "base-uri 'none'",
    "frame-ancestors 'none'",
  ];
  return reply
    .code(status)
    .type('text/html; charset=utf-8')
    .headers(securityHeaders(policy))
    .send(eta.render(`./${view}`, data));
}

/** @param policy the directives of the Content-Security-Policy */
export function securityHeaders(policy: readonly string[]): Record<string, string> {
  return {
    'content-security-policy': policy.join('; '),
    'cache-control': 'no-store',
    // The address grants access, so the next site must not see it.
    'referrer-policy': 'no-referrer',
    'x-content-type-options': 'nosniff',
  };
}
