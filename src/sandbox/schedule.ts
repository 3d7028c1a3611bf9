import { expireCheckout } from './checkouts.ts';
import type { Cause } from './events.ts';
import type { State } from './state.ts';
import {
  INCOMPLETE_LIFETIME,
  cancelNow,
  chargeInvoice,
  currentPeriodEnd,
  endTrial,
  expireIncomplete,
  renew,
} from './subscriptions.ts';
import type { CheckoutSession, Invoice, StripeEvent, Subscription } from './types.ts';

/** Something that happens automatically. */
interface Due {
  /** Epoch seconds. */
  at: number;
  happen: (cause: Cause) => StripeEvent[];
}

/**
 * Makes everything happen that is due: trials end, plans renew or end, payments are retried, and checkouts
 * and unpaid subscriptions expire.
 *
 * @param now epoch seconds, inclusive
 * @returns the events in order of time, each dated at the second it was due
 */
export function letHappen(state: State, now: number): StripeEvent[] {
  const events: StripeEvent[] = [];
  // Each step can make other things due, so look again after each one.
  for (let next = nextDue(state); next !== undefined && next.at <= now; next = nextDue(state)) {
    events.push(...next.happen({ at: next.at, requestId: null, idempotencyKey: null }));
  }
  return events;
}

function nextDue(state: State): Due | undefined {
  let first: Due | undefined;
  const candidates = [
    // Invoices come first, because a payment due together with a renewal belongs to the previous period.
    ...[...state.invoices.values()].flatMap((one) => dueOfInvoice(state, one)),
    ...[...state.subscriptions.values()].flatMap((one) => dueOfSubscription(state, one)),
    ...[...state.checkouts.values()].flatMap((one) => dueOfCheckout(one)),
  ];
  for (const due of candidates) {
    if (first === undefined || due.at < first.at) {
      first = due;
    }
  }
  return first;
}

function dueOfInvoice(state: State, invoice: Invoice): Due[] {
  const at = invoice.automatically_finalizes_at ?? invoice.next_payment_attempt;
  const subscription = state.subscriptions.get(invoice.parent.subscription_details.subscription);
  return at === null || subscription === undefined
    ? []
    : [{ at, happen: (cause) => chargeInvoice(state, subscription, invoice, cause) }];
}

function dueOfSubscription(state: State, subscription: Subscription): Due[] {
  switch (subscription.status) {
    case 'incomplete': {
      const at = subscription.created + INCOMPLETE_LIFETIME;
      return [{ at, happen: (cause) => expireIncomplete(state, subscription, cause) }];
    }
    case 'trialing':
    case 'active':
    case 'past_due': {
      const next = subscription.status === 'trialing' ? endTrial : renew;
      const happens = subscription.cancel_at_period_end ? cancelNow : next;
      return [{ at: currentPeriodEnd(subscription), happen: (cause) => happens(state, subscription, cause) }];
    }
    default:
      return [];
  }
}

function dueOfCheckout(session: CheckoutSession): Due[] {
  return session.status === 'open'
    ? [{ at: session.expires_at, happen: (cause) => expireCheckout(session, cause) }]
    : [];
}
