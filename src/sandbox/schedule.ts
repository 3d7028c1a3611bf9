import { expireCheckout } from './checkouts.ts';
import type { Cause } from './events.ts';
import type { State } from './state.ts';
import {
  INCOMPLETE_LIFETIME,
  cancelNow,
  changeSubscription,
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
 * Lets everything happen that is due: trials end, plans renew or end, payments are retried, checkouts and unpaid
 * subscriptions expire.
 *
 * @param now epoch seconds, inclusive
 * @returns the events in order of time, each dated at the second when it was due
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
    // Invoices first: a payment due together with a renewal belongs to the previous period.
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
  const { status, cancel_at: cancelAt, pause_collection: pause } = subscription;
  const dues: Due[] = [];
  if (status === 'incomplete') {
    const at = subscription.created + INCOMPLETE_LIFETIME;
    dues.push({ at, happen: (cause) => expireIncomplete(state, subscription, cause) });
  }
  const runs = status === 'trialing' || status === 'active' || status === 'past_due';
  if (cancelAt !== null && (runs || status === 'paused')) {
    dues.push({ at: cancelAt, happen: (cause) => cancelNow(state, subscription, cause) });
  }
  if (runs) {
    const resumesAt = pause?.resumes_at ?? null;
    if (resumesAt !== null) {
      const changes = { pauseCollection: null };
      dues.push({
        at: resumesAt,
        happen: (cause) => changeSubscription(state, subscription, changes, cause),
      });
    }
    const next = status === 'trialing' ? endTrial : renew;
    dues.push({
      at: currentPeriodEnd(subscription),
      happen: (cause) => next(state, subscription, cause),
    });
  }
  return dues;
}

function dueOfCheckout(session: CheckoutSession): Due[] {
  return session.status === 'open'
    ? [{ at: session.expires_at, happen: (cause) => expireCheckout(session, cause) }]
    : [];
}
