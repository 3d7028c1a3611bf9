import type { FastifyInstance, FastifyReply } from 'fastify';

import { openInvoice, retryPayment } from './checkouts.ts';
import { panelOf, pressButton } from './control-panel.ts';
import { cardName, changeCard, otherCard } from './customers.ts';
import { invoicesOf } from './invoices.ts';
import { newestFirst } from './lists.ts';
import { formatMoney } from './money.ts';
import { asParams, readText } from './params.ts';
import type { Params } from './params.ts';
import { paymentOf } from './payments.ts';
import type { Context } from './sandbox-context.ts';
import { byPerson, day, describePrice, inTime, sendMessage, sendPage } from './shared-page.ts';
import type { State } from './state.ts';
import {
  cancelAtPeriodEnd,
  cardOf,
  costOfSwitch,
  currentPeriodEnd,
  hasEnded,
  subscriptionsOf,
  switchPlan,
} from './subscriptions.ts';
import { toEpoch } from './time.ts';
import type { Invoice, PortalSession, Price, StripeEvent, Subscription } from './types.ts';

/** What a customer can do in the portal. */
const ACTIONS = new Set(['switch', 'cancel_at_period_end', 'resume', 'change_card', 'pay']);

const DECLINED = 'Your card was declined. Change your card, and try again.';

const STATUSES: Partial<Record<Subscription['status'], string>> = {
  active: 'Active',
  trialing: 'Trial',
  past_due: 'Past due',
  unpaid: 'Unpaid',
  incomplete: 'Not paid yet',
  incomplete_expired: 'Expired',
  canceled: 'Canceled',
};

/**
 * Serves the customer portal. As at Stripe, it needs no login, because the address contains an unguessable
 * id.
 *
 * @param app a Fastify scope whose form bodies are parsed
 */
export function servePortalPage(app: FastifyInstance, context: Context): void {
  const { options, state } = context;

  app.get<{ Params: { id: string } }>('/portal/:id', (request, reply) => {
    const portal = state.portals.get(request.params.id);
    if (portal !== undefined) {
      return show(reply, portal);
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
    // Success redirects instead of rendering, so that a reload does not repeat the action.
    if (await pressButton(context, portal.customer, form)) {
      return reply.redirect(`/portal/${portal.id}#control-panel`, 303);
    }
    if (!ACTIONS.has(readText(form, 'action') ?? '')) {
      return sendMessage(reply, 400, 'The portal has no such button.');
    }
    const { events, problem } = act(context, portal.customer, form);
    await inTime(context.publish(events));
    return problem === undefined ? reply.redirect(`/portal/${portal.id}`, 303) : show(reply, portal, problem);
  });

  function show(reply: FastifyReply, portal: PortalSession, problem?: string): FastifyReply {
    const { customer } = portal;
    const known = state.customers.get(customer);
    const subscriptions = subscriptionsOf(state, customer);
    const invoices = newestFirst(subscriptions.flatMap((one) => invoicesOf(state, one)));
    return sendPage(reply, problem === undefined ? 200 : 402, 'portal', [], {
      title: 'Billing',
      seller: options.seller,
      returnUrl: portal.return_url,
      here: `/portal/${portal.id}`,
      problem,
      email: known === undefined || 'deleted' in known ? null : known.email,
      balance:
        known === undefined || 'deleted' in known || known.balance === 0
          ? undefined
          : formatMoney(-known.balance, known.currency ?? 'usd'),
      plans: subscriptions.filter((one) => !hasEnded(one)).map((one) => describePlan(context, one)),
      ended: subscriptions.filter(hasEnded).map((one) => ({
        plan: planName(one),
        on: day(one.ended_at ?? one.created),
      })),
      card: cardName(state, customer),
      otherCard: otherCard(state, customer),
      invoices: invoices.map((one) => describeInvoice(state, one)),
      panel: panelOf(context, `/portal/${portal.id}`, customer),
    });
  }
}

/** Does what a customer asks for. A button of an outdated page does nothing. */
function act(context: Context, customer: string, form: Params): { events: StripeEvent[]; problem?: string } {
  const { state } = context;
  const cause = byPerson(context);
  const nothing = { events: [] };
  const known = state.customers.get(customer);
  if (known === undefined || 'deleted' in known) {
    return nothing;
  }
  const action = readText(form, 'action');
  if (action === 'change_card') {
    return { events: changeCard(state, known, cause) };
  }
  // Without an id, the form means the newest subscription that has not ended.
  const id = readText(form, 'subscription');
  const subscription = subscriptionsOf(state, customer).find(
    (one) => !hasEnded(one) && (id === undefined || one.id === id),
  );
  if (subscription === undefined) {
    return nothing;
  }
  switch (action) {
    case 'resume':
    case 'cancel_at_period_end':
      return canCancel(subscription)
        ? { events: cancelAtPeriodEnd(subscription, action === 'cancel_at_period_end', cause) }
        : nothing;
    case 'pay': {
      if (openInvoice(state, subscription) === undefined) {
        return nothing;
      }
      const events = retryPayment(state, subscription, cause);
      return cardOf(state, customer) === 'works' ? { events } : { events, problem: DECLINED };
    }
    default: {
      const wanted = readText(form, 'price');
      const price = otherPrices(context, subscription).find((one) => one.id === wanted);
      const events = price === undefined ? [] : switchPlan(state, subscription, price, cause);
      return events === undefined
        ? { events: [], problem: `${DECLINED} Your plan has not changed.` }
        : { events };
    }
  }
}

function describePlan(context: Context, subscription: Subscription): object {
  const { state, now } = context;
  const price = subscription.items.data[0]?.price;
  const endsAt = subscription.cancel_at;
  const open = openInvoice(state, subscription);
  return {
    id: subscription.id,
    plan: planName(subscription),
    price: price === undefined ? '' : describePrice(price),
    status: endsAt === null ? STATUSES[subscription.status] : 'Canceled',
    isTrouble: open !== undefined,
    term: endsAt !== null ? 'Ends' : subscription.status === 'trialing' ? 'Trial ends' : 'Renews',
    date: ['incomplete', 'unpaid'].includes(subscription.status)
      ? undefined
      : day(endsAt ?? currentPeriodEnd(subscription)),
    owed: open && {
      amount: formatMoney(open.amount_remaining, open.currency),
      retry: open.next_payment_attempt === null ? undefined : day(open.next_payment_attempt),
    },
    switches: otherPrices(context, subscription).map((one) => {
      const { credit, due } = costOfSwitch(state, subscription, one, toEpoch(now()));
      return {
        price: one.id,
        plan: one.nickname,
        cost: describePrice(one),
        isTrial: subscription.status === 'trialing',
        due: formatMoney(due, one.currency),
        credit: credit === 0 ? undefined : formatMoney(credit, one.currency),
      };
    }),
    canCancel: canCancel(subscription) && endsAt === null,
    canResume: canCancel(subscription) && endsAt !== null,
  };
}

function describeInvoice(state: State, invoice: Invoice): object {
  const intent = paymentOf(state, invoice.id)?.intent;
  const charge = state.charges.get(intent?.latest_charge ?? '');
  const line = invoice.lines.data.at(-1);
  const words = { draft: 'Upcoming', open: 'Open', paid: 'Paid', void: 'Void', uncollectible: 'Not paid' };
  const refunded = charge?.refunded ? 'Refunded' : 'Partly refunded';
  return {
    date: day(invoice.created),
    amount: formatMoney(invoice.amount_due, invoice.currency),
    what: line?.description ?? '',
    status: charge?.amount_refunded ? refunded : words[invoice.status ?? 'draft'],
  };
}

/** The prices of the same product that the subscription can be switched to. */
function otherPrices({ prices }: Context, subscription: Subscription): Price[] {
  const price = subscription.items.data[0]?.price;
  const takesSwitch = ['active', 'trialing'].includes(subscription.status);
  return !takesSwitch || subscription.cancel_at_period_end
    ? []
    : [...prices.values()].filter((one) => one.product === price?.product && one.id !== price.id);
}

/** Neither an incomplete nor an unpaid subscription can be canceled at its period's end. An incomplete one expires. */
function canCancel(subscription: Subscription): boolean {
  return ['active', 'trialing', 'past_due'].includes(subscription.status);
}

function planName(subscription: Subscription): string {
  return subscription.items.data[0]?.price.nickname ?? 'Plan';
}
