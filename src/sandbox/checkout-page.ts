import type { FastifyInstance, FastifyReply } from 'fastify';

import { expireIfDue, payCheckout } from './checkouts.ts';
import { panelOf, pressButton } from './control-panel.ts';
import { cardName } from './customers.ts';
import { formatMoney } from './money.ts';
import { asParams, readText } from './params.ts';
import type { Context } from './sandbox-context.ts';
import { byPerson, describePrice, inTime, sendMessage, sendPage } from './shared-page.ts';
import type { CheckoutSession, Order } from './types.ts';

/**
 * Serves the payment page. As at Stripe, it needs no login, because the address contains an unguessable id.
 *
 * @param app a Fastify scope whose form bodies are parsed
 */
export function serveCheckoutPage(app: FastifyInstance, context: Context): void {
  const { options, state } = context;

  app.get<{ Params: { id: string } }>('/checkout/:id', async (request, reply) => {
    const found = find(request.params.id);
    if (found !== undefined) {
      return show(reply, found);
    }
    reply.callNotFound();
    return reply;
  });

  app.post<{ Params: { id: string } }>('/checkout/:id', async (request, reply) => {
    const found = find(request.params.id);
    if (found === undefined) {
      reply.callNotFound();
      return reply;
    }
    const { session, order } = found;
    await inTime(expireIfDue(context, session, byPerson(context).at));
    const form = asParams(request.body);
    const outcome = readText(form, 'outcome');
    if (outcome === 'pay' && session.status === 'complete') {
      return reply.redirect(successUrl(session), 303);
    }
    if (outcome === 'decline' && session.status === 'open') {
      return show(reply, found, 'Your card was declined. Try again, or go back.');
    }
    if (outcome === 'pay' && session.status === 'open') {
      const events = payCheckout(state, session, order, 'paid', byPerson(context));
      if (events === undefined) {
        return show(reply, found, 'This customer was deleted, so nothing can be paid.');
      }
      await inTime(context.publish(events));
      return reply.redirect(successUrl(session), 303);
    }
    if (outcome !== undefined) {
      return show(reply, found);
    }
    if (await pressButton(context, null, form)) {
      return reply.redirect(`/checkout/${session.id}#control-panel`, 303);
    }
    return sendMessage(reply, 400, 'The checkout has no such button.');
  });

  function find(id: string): { session: CheckoutSession; order: Order } | undefined {
    const session = state.checkouts.get(id);
    const order = state.orders.get(id);
    return session === undefined || order === undefined ? undefined : { session, order };
  }

  async function show(
    reply: FastifyReply,
    { session, order }: { session: CheckoutSession; order: Order },
    problem?: string,
  ): Promise<FastifyReply> {
    await inTime(expireIfDue(context, session, byPerson(context).at));
    const known = state.customers.get(session.customer ?? '');
    const open = session.status === 'open';
    const decline = { field: 'outcome', action: 'decline', label: 'Decline the card' };
    return sendPage(reply, problem === undefined ? 200 : 402, 'checkout', [successUrl(session)], {
      title: 'Checkout',
      seller: options.seller,
      session,
      email: session.customer_email ?? (known === undefined || 'deleted' in known ? null : known.email),
      problem,
      successUrl: successUrl(session),
      plan: order.price.nickname,
      price: describePrice(order.price),
      trialDays: order.trialDays,
      card: cardName(state, session.customer ?? ''),
      today: formatMoney(session.amount_total, session.currency),
      panel: panelOf(context, `/checkout/${session.id}`, null, open ? [decline] : []),
    });
  }
}

function successUrl(session: CheckoutSession): string {
  return session.success_url.replaceAll('{CHECKOUT_SESSION_ID}', session.id);
}
