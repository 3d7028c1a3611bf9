import type { FastifyInstance } from 'fastify';

import { moveClock } from './clock.ts';
import { cardName, setCard } from './customers.ts';
import { canBecome, closeDispute, openDispute } from './disputes.ts';
import { newestFirst } from './lists.ts';
import { formatMoney } from './money.ts';
import { asParams, readText } from './params.ts';
import type { Params } from './params.ts';
import { refundCharge } from './refunds.ts';
import type { Context } from './sandbox-context.ts';
import { nextOf } from './schedule.ts';
import { byPerson, day, inTime, moment, sendMessage, sendPage } from './shared-page.ts';
import type { State } from './state.ts';
import { cancelNow, cardOf, hasEnded, subscriptionsOf } from './subscriptions.ts';
import { DAY, HOUR, addMonths, toEpoch } from './time.ts';
import type { Charge, Dispute, StripeEvent } from './types.ts';

/** A button of the panel. */
interface Button {
  label: string;
  /** Shown after the label. */
  note?: string;
  /** The name of the form's field; `action` by default. */
  field?: string;
  action: string;
  /** Which subscription is meant; the newest one that has not ended by default. */
  subscription?: string;
}

/** A button of the control panel with what it does. */
interface Act extends Button {
  act: () => Promise<void>;
}

/** Every button that the panel can show. */
const ACTIONS = new Set([
  'pass_next',
  'pass_day',
  'pass_week',
  'pass_month',
  'card_declined',
  'card_works',
  'refund_last',
  'cancel_now',
  'dispute_open',
  'dispute_lost',
  'dispute_won',
  'lose_next',
  'lose_none',
]);

/** How many webhooks that never arrived are listed. */
const LOST_SHOWN = 5;

const DISPUTES: Record<Dispute['status'], string> = {
  needs_response: 'open',
  lost: 'lost',
  appeal_under_review: 'lost, under appeal',
  won: 'won',
};

/**
 * Serves the panel on a page of its own, for people without a checkout or a portal session.
 *
 * @param app a Fastify scope whose form bodies are parsed
 */
export function serveControlPanel(app: FastifyInstance, context: Context): void {
  app.get('/', (_request, reply) =>
    sendPage(reply, 200, 'control-panel-page', [], {
      title: 'Control panel',
      panel: panelOf(context, '/', null),
    }),
  );

  app.post('/', async (request, reply) => {
    // This address is easy to guess, so other sites must not be able to send forms to it.
    if (request.headers['sec-fetch-site'] === 'cross-site') {
      return sendMessage(reply, 403, 'This form was sent from another site.');
    }
    return (await pressButton(context, null, asParams(request.body)))
      ? reply.redirect('/#control-panel', 303)
      : sendMessage(reply, 400, 'The panel has no such button.');
  });
}

/**
 * Describes the panel for its view: the controls for time, the bank, the seller and the network.
 *
 * @param here the path that its forms are sent to
 * @param customer whose plan, card and payments it is about; null on the panel's own page, and on a checkout
 * @param more buttons of the bank, which the calling page handles
 */
export function panelOf(
  context: Context,
  here: string,
  customer: string | null,
  more: readonly Button[] = [],
): object {
  const { state, now } = context;
  const charge = customer === null ? undefined : lastPayment(state, customer);
  const dispute = customer === null ? undefined : lastDispute(state, customer);
  return {
    here,
    now: moment(now()),
    daysAhead: Math.round(state.aheadMs / 1000 / DAY),
    next: nextActs(context, customer),
    spans: spanActs(context),
    card:
      customer === null
        ? undefined
        : `${cardName(state, customer)}, ${cardOf(state, customer) === 'works' ? 'works' : 'is declined'}`,
    bank: [...more, ...bankActs(context, customer)],
    seller: sellerActs(context, customer),
    payment: charge && describePayment(charge),
    dispute: dispute && `${formatMoney(dispute.amount, dispute.currency)}, ${DISPUTES[dispute.status]}`,
    losesNext: state.losesNext,
    network: networkActs(context),
    lost: newestFirst(state.events.values())
      .filter((event) => event.pending_webhooks > 0 && !state.undelivered.has(event.id))
      .slice(0, LOST_SHOWN)
      .map((event) => ({ type: event.type, on: day(event.created) })),
  };
}

/**
 * Does what a button of the panel asks for. A button of an outdated page does nothing.
 *
 * @returns false when there is no such button
 */
export async function pressButton(context: Context, customer: string | null, form: Params): Promise<boolean> {
  const action = readText(form, 'action') ?? '';
  const subscription = readText(form, 'subscription');
  const acts = [
    ...nextActs(context, customer),
    ...spanActs(context),
    ...bankActs(context, customer),
    ...sellerActs(context, customer),
    ...networkActs(context),
  ];
  const wanted = acts.find(
    (one) => one.action === action && (subscription === undefined || one.subscription === subscription),
  );
  await wanted?.act();
  return ACTIONS.has(action);
}

/** Lets time pass until something happens to one of the customer's plans. */
function nextActs(context: Context, customer: string | null): Act[] {
  const { state, now } = context;
  return livePlans(state, customer).flatMap(({ id, name }) => {
    const subscription = state.subscriptions.get(id);
    const due = subscription && nextOf(state, subscription);
    return due === undefined
      ? []
      : [
          {
            action: 'pass_next',
            subscription: id,
            label: `${name}Let ${spanOf(due.at - toEpoch(now()))} pass: ${due.what}`,
            note: day(due.at),
            act: () => moveClock(context, due.at),
          },
        ];
  });
}

function spanActs(context: Context): Act[] {
  const at = toEpoch(context.now());
  const spans = [
    ['pass_day', '1 day', at + DAY],
    ['pass_week', '1 week', at + 7 * DAY],
    ['pass_month', '1 month', addMonths(at, 1)],
  ] as const;
  return spans.map(([action, label, until]) => ({ action, label, act: () => moveClock(context, until) }));
}

function bankActs(context: Context, customer: string | null): Act[] {
  const { state } = context;
  const known = customer === null ? undefined : state.customers.get(customer);
  if (known === undefined || 'deleted' in known) {
    return [];
  }
  const works = cardOf(state, known.id) === 'works';
  const [action, label] = works
    ? (['card_declined', 'Decline the card from now on'] as const)
    : (['card_works', 'Let the card work again'] as const);
  const acts: Act[] = [
    {
      action,
      label,
      act: () => {
        setCard(state, known.id, works ? 'declined' : 'works');
        return context.publish([]);
      },
    },
  ];
  const charge = lastPayment(state, known.id);
  if (charge !== undefined && !charge.disputed) {
    acts.push({
      action: 'dispute_open',
      label: 'Open a dispute on the last payment',
      act: () => publishInTime(context, openDispute(state, charge, byPerson(context)).events),
    });
  }
  const dispute = lastDispute(state, known.id);
  for (const outcome of ['lost', 'won'] as const) {
    if (dispute !== undefined && canBecome(dispute, outcome)) {
      // The customer got the money when the dispute was lost, and keeps it during an appeal.
      const isGone = dispute.status !== 'needs_response';
      const won = isGone ? 'the seller gets the money back' : 'the seller keeps the money';
      const lost = isGone ? 'nothing changes' : 'the customer gets the money back';
      acts.push({
        action: `dispute_${outcome}`,
        label: `The dispute is ${outcome}: ${outcome === 'won' ? won : lost}`,
        act: () => publishInTime(context, closeDispute(dispute, outcome, byPerson(context))),
      });
    }
  }
  return acts;
}

function sellerActs(context: Context, customer: string | null): Act[] {
  const { state } = context;
  const charge = customer === null ? undefined : lastPayment(state, customer);
  const acts: Act[] = [];
  if (charge !== undefined && !charge.refunded && !charge.disputed) {
    acts.push({
      action: 'refund_last',
      label: 'Refund the last payment',
      act: () => publishInTime(context, refundCharge(state, charge, undefined, byPerson(context)).events),
    });
  }
  for (const { id, name } of livePlans(state, customer)) {
    acts.push({
      action: 'cancel_now',
      subscription: id,
      label: `${name}End the plan now`,
      act: async () => {
        const subscription = state.subscriptions.get(id);
        if (subscription !== undefined) {
          await publishInTime(context, cancelNow(state, subscription, byPerson(context)));
        }
      },
    });
  }
  return acts;
}

function networkActs({ state, publish }: Context): Act[] {
  const { losesNext } = state;
  return [
    {
      action: losesNext ? 'lose_none' : 'lose_next',
      label: losesNext ? 'Deliver them after all' : 'Lose the next webhooks',
      act: () => {
        state.losesNext = !losesNext;
        return publish([]);
      },
    },
  ];
}

/** The plans that have not ended, newest first, each with the words that tell it from the others. */
function livePlans(state: State, customer: string | null): { id: string; name: string }[] {
  const live = customer === null ? [] : subscriptionsOf(state, customer).filter((one) => !hasEnded(one));
  return live.map((one) => ({
    id: one.id,
    name: live.length === 1 ? '' : `${one.items.data[0]?.price.nickname ?? 'Plan'}: `,
  }));
}

function publishInTime(context: Context, events: StripeEvent[]): Promise<void> {
  return inTime(context.publish(events));
}

/** @param seconds from now until something is due */
function spanOf(seconds: number): string {
  const days = seconds / DAY;
  if (seconds < HOUR) {
    return span(Math.ceil(seconds / 60), 'minute');
  }
  if (days < 1) {
    return span(Math.ceil(seconds / HOUR), 'hour');
  }
  if (days < 27 || (days >= 32 && days < 59)) {
    return span(Math.ceil(days), 'day');
  }
  return days < 360 ? span(Math.round(days / 30.4), 'month') : span(Math.round(days / 365), 'year');
}

function span(count: number, unit: 'minute' | 'hour' | 'day' | 'month' | 'year'): string {
  if (count > 1) {
    return `${count} ${unit}s`;
  }
  return unit === 'hour' ? 'an hour' : `a ${unit}`;
}

/** Returns the customer's newest successful charge. */
function lastPayment(state: State, customer: string): Charge | undefined {
  return newestFirst(state.charges.values()).find(
    (one) => one.customer === customer && one.status === 'succeeded',
  );
}

/** Returns the newest dispute of one of the customer's charges. */
function lastDispute(state: State, customer: string): Dispute | undefined {
  return newestFirst(state.disputes.values()).find(
    (one) => state.charges.get(one.charge)?.customer === customer,
  );
}

function describePayment({ amount, amount_refunded: back, currency, created }: Charge): string {
  const refunded = back === 0 ? '' : `, ${formatMoney(back, currency)} refunded`;
  return `${formatMoney(amount, currency)} on ${day(created)}${refunded}`;
}
