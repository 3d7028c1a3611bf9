import { buildEvent } from './events.ts';
import type { Cause } from './events.ts';
import { draftInvoice, finalizeInvoice, invoicesOf, leaveAlone, voidInvoice } from './invoices.ts';
import { collect } from './payments.ts';
import type { CardBehaviour, State } from './state.ts';
import { DAY, HOUR, periodEnd } from './time.ts';
import type { Customer, Invoice, StripeEvent, Subscription } from './types.ts';

// What can happen to a subscription after its creation. Each function changes the state at once and returns
// the events, and the caller publishes them.
// https://docs.stripe.com/billing/subscriptions/overview#subscription-lifecycle

/** A subscription expires if its first payment is not made within this time, s. */
export const INCOMPLETE_LIFETIME = 23 * HOUR;

/** The invoice at a trial's end is charged after this time, s. The sandbox charges renewals at once. */
const DRAFT_LIFETIME = HOUR;

/** Pauses between failed attempts, s. After the last one the subscription is canceled. */
const RETRY_DELAYS = [3 * DAY, 5 * DAY, 7 * DAY];

/**
 * Cancels a subscription at the end of its period, or withdraws that cancellation:
 * https://docs.stripe.com/api/subscriptions/update
 *
 * @returns no event when nothing changed
 */
export function cancelAtPeriodEnd(subscription: Subscription, ends: boolean, cause: Cause): StripeEvent[] {
  if (subscription.cancel_at_period_end === ends) {
    return [];
  }
  const before = structuredClone(subscription);
  subscription.cancel_at_period_end = ends;
  subscription.cancel_at = ends ? currentPeriodEnd(subscription) : null;
  subscription.canceled_at = ends ? cause.at : null;
  subscription.cancellation_details.reason = ends ? 'cancellation_requested' : null;
  return [buildEvent(cause, 'customer.subscription.updated', subscription, before)];
}

/**
 * Cancels a subscription now. Nothing is refunded, and open invoices are no longer collected. See
 * https://docs.stripe.com/api/subscriptions/cancel
 *
 * @param reason `payment_failed` when Stripe gave up on the card
 */
export function cancelNow(
  state: State,
  subscription: Subscription,
  cause: Cause,
  reason: Subscription['cancellation_details']['reason'] = 'cancellation_requested',
): StripeEvent[] {
  subscription.status = 'canceled';
  subscription.canceled_at ??= cause.at;
  subscription.ended_at = cause.at;
  subscription.cancellation_details.reason = reason;
  invoicesOf(state, subscription).forEach(leaveAlone);
  return [buildEvent(cause, 'customer.subscription.deleted', subscription)];
}

/** Ends a subscription whose first payment was never made, and voids its invoice. */
export function expireIncomplete(state: State, subscription: Subscription, cause: Cause): StripeEvent[] {
  const before = structuredClone(subscription);
  subscription.status = 'incomplete_expired';
  subscription.ended_at = cause.at;
  return [
    buildEvent(cause, 'customer.subscription.updated', subscription, before),
    ...invoicesOf(state, subscription)
      .filter((invoice) => invoice.status === 'open')
      .flatMap((invoice) => voidInvoice(state, invoice, cause)),
  ];
}

/**
 * Ends a trial that ran its full time. The subscription becomes active, and its invoice is charged an hour
 * later. See https://docs.stripe.com/billing/subscriptions/trials
 */
export function endTrial(state: State, subscription: Subscription, cause: Cause): StripeEvent[] {
  const { invoice, events } = startNextPeriod(state, subscription, cause);
  if (invoice !== undefined) {
    invoice.automatically_finalizes_at = cause.at + DRAFT_LIFETIME;
  }
  return events;
}

/** Starts the next period, or the first one after a trial, and charges it at once. */
export function renew(state: State, subscription: Subscription, cause: Cause): StripeEvent[] {
  const { invoice, events } = startNextPeriod(state, subscription, cause);
  return invoice === undefined ? events : [...events, ...chargeInvoice(state, subscription, invoice, cause)];
}

/** Charges a draft or open invoice automatically. A draft is finalized first. */
export function chargeInvoice(
  state: State,
  subscription: Subscription,
  invoice: Invoice,
  cause: Cause,
): StripeEvent[] {
  if (invoice.status === 'draft') {
    finalizeInvoice(state, invoice, cause);
  }
  if (invoice.amount_remaining > 0) {
    // Only automatic attempts count, so that a manual one does not shorten the schedule.
    invoice.attempt_count += 1;
    scheduleRetry(invoice, cause.at);
  }
  const works = cardOf(state, subscription.customer) === 'works';
  const events = collect(state, invoice, works ? 'succeeded' : 'declined', cause);
  return [...events, ...followPayment(state, subscription, invoice, cause)];
}

/**
 * Schedules the next automatic attempt, in case this one fails. After the last attempt it schedules none.
 *
 * @param invoice its `attempt_count` includes this attempt
 * @param at epoch seconds of the attempt
 */
export function scheduleRetry(invoice: Invoice, at: number): void {
  const delay = RETRY_DELAYS[invoice.attempt_count - 1];
  invoice.next_payment_attempt = delay === undefined || !invoice.auto_advance ? null : at + delay;
}

/** Charges an open invoice on request. The retry schedule stays as it is. */
export function payByHand(
  state: State,
  subscription: Subscription,
  invoice: Invoice,
  cause: Cause,
): StripeEvent[] {
  const works = cardOf(state, subscription.customer) === 'works';
  const events = collect(state, invoice, works ? 'succeeded' : 'declined', cause);
  return [...events, ...followPayment(state, subscription, invoice, cause, 'by hand')];
}

/**
 * Updates a subscription after an attempt to collect its invoice. Success makes it active again. Failure
 * makes it past due, and cancels it when no retries are left. See
 * https://docs.stripe.com/billing/revenue-recovery
 *
 * @param by `by hand` never cancels: the retry schedule decides what happens next
 */
export function followPayment(
  state: State,
  subscription: Subscription,
  invoice: Invoice,
  cause: Cause,
  by: 'itself' | 'by hand' = 'itself',
): StripeEvent[] {
  const latest = subscription.latest_invoice === invoice.id;
  const { status } = subscription;
  if (invoice.status === 'paid') {
    return latest && (status === 'past_due' || status === 'unpaid' || status === 'incomplete')
      ? [turn(subscription, 'active', cause)]
      : [];
  }
  if (!latest || (status !== 'active' && status !== 'past_due')) {
    return [];
  }
  const events = status === 'active' ? [turn(subscription, 'past_due', cause)] : [];
  const givenUp = by === 'itself' && invoice.next_payment_attempt === null;
  return givenUp ? [...events, ...cancelNow(state, subscription, cause, 'payment_failed')] : events;
}

/**
 * Leaves a past due subscription unpaid. An account can choose this instead of canceling. See
 * https://docs.stripe.com/billing/revenue-recovery
 *
 * @throws Error when it is not past due
 */
export function leaveUnpaid(state: State, subscription: Subscription, cause: Cause): StripeEvent[] {
  if (subscription.status !== 'past_due') {
    throw new Error(`Subscription ${subscription.id} is ${subscription.status}, not past due.`);
  }
  for (const invoice of invoicesOf(state, subscription)) {
    invoice.next_payment_attempt = null;
  }
  return [turn(subscription, 'unpaid', cause)];
}

/**
 * Makes the next scheduled thing happen to a subscription as if its time had come: a payment attempt, or the
 * end of the period. Affects only this subscription and does not move the clock.
 */
export function letTimePass(state: State, subscription: Subscription, cause: Cause): StripeEvent[] {
  const invoice = waitingInvoice(state, subscription);
  if (invoice !== undefined) {
    return chargeInvoice(state, subscription, invoice, cause);
  }
  switch (subscription.status) {
    case 'incomplete':
      return expireIncomplete(state, subscription, cause);
    case 'trialing':
    case 'active':
    case 'past_due':
      return subscription.cancel_at_period_end
        ? cancelNow(state, subscription, cause)
        : renew(state, subscription, cause);
    default:
      return [];
  }
}

/** Returns the latest invoice while it will still be charged automatically. */
export function waitingInvoice(state: State, subscription: Subscription): Invoice | undefined {
  const invoice = state.invoices.get(subscription.latest_invoice ?? '');
  const due = invoice?.automatically_finalizes_at ?? invoice?.next_payment_attempt ?? null;
  return due === null ? undefined : invoice;
}

/** Returns all subscriptions of a customer, newest first. */
export function subscriptionsOf(state: State, customer: string): Subscription[] {
  return [...state.subscriptions.values()].filter((one) => one.customer === customer).reverse();
}

export function hasEnded(subscription: Subscription): boolean {
  return subscription.status === 'canceled' || subscription.status === 'incomplete_expired';
}

/** Returns the end of the paid period or of the trial, epoch seconds. */
export function currentPeriodEnd(subscription: Subscription): number {
  return Math.max(...subscription.items.data.map((item) => item.current_period_end));
}

export function cardOf(state: State, customer: string): CardBehaviour {
  return state.cards.get(customer)?.behaviour ?? 'works';
}

function startNextPeriod(
  state: State,
  subscription: Subscription,
  cause: Cause,
): { invoice?: Invoice; events: StripeEvent[] } {
  const customer = livingCustomer(state, subscription);
  if (customer === undefined) {
    return { events: cancelNow(state, subscription, cause) };
  }
  const before = structuredClone(subscription);
  if (subscription.status === 'trialing') {
    subscription.status = 'active';
  }
  for (const item of subscription.items.data) {
    item.current_period_start = item.current_period_end;
    item.current_period_end = periodEnd(
      subscription.billing_cycle_anchor,
      item.price.recurring.interval,
      item.current_period_start,
    );
  }
  const invoice = draftInvoice(state, customer, subscription, 'subscription_cycle', cause);
  return { invoice, events: [buildEvent(cause, 'customer.subscription.updated', subscription, before)] };
}

function turn(subscription: Subscription, status: Subscription['status'], cause: Cause): StripeEvent {
  const before = structuredClone(subscription);
  subscription.status = status;
  return buildEvent(cause, 'customer.subscription.updated', subscription, before);
}

function livingCustomer(state: State, subscription: Subscription): Customer | undefined {
  const customer = state.customers.get(subscription.customer);
  return customer === undefined || 'deleted' in customer ? undefined : customer;
}
