import { buildEvent } from './events.ts';
import type { Cause } from './events.ts';
import { draftInvoice, finalizeInvoice, invoicesOf, stopCollection, voidInvoice } from './invoices.ts';
import { collect } from './payments.ts';
import { Refusal } from './refusal.ts';
import type { CardBehaviour, State } from './state.ts';
import { DAY, HOUR, periodEnd } from './time.ts';
import type { Customer, Invoice, Price, StripeEvent, Subscription } from './types.ts';

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
  invoicesOf(state, subscription).forEach(stopCollection);
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

/** Starts the next period and charges it at once. */
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
  return [...events, ...followPayment(state, subscription, invoice, cause, 'manual')];
}

/**
 * Updates a subscription after an attempt to collect its invoice. Success makes it active again. Failure
 * makes it past due, and cancels it when no retries are left. See
 * https://docs.stripe.com/billing/revenue-recovery
 *
 * @param attempt `manual` never cancels: the retry schedule decides what happens next
 */
export function followPayment(
  state: State,
  subscription: Subscription,
  invoice: Invoice,
  cause: Cause,
  attempt: 'automatic' | 'manual' = 'automatic',
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
  const givenUp = attempt === 'automatic' && invoice.next_payment_attempt === null;
  return givenUp ? [...events, ...cancelNow(state, subscription, cause, 'payment_failed')] : events;
}

/**
 * Leaves a past due subscription unpaid. An account can choose this instead of canceling. See
 * https://docs.stripe.com/billing/revenue-recovery
 *
 * @throws Refusal when it is not past due
 */
export function leaveUnpaid(state: State, subscription: Subscription, cause: Cause): StripeEvent[] {
  if (subscription.status !== 'past_due') {
    throw new Refusal(`Subscription ${subscription.id} is ${subscription.status}, not past due.`);
  }
  for (const invoice of invoicesOf(state, subscription)) {
    invoice.next_payment_attempt = null;
  }
  return [turn(subscription, 'unpaid', cause)];
}

/** What a switch of plans costs, cents. */
export interface SwitchCost {
  /** For the time that was paid for and not used. */
  credit: number;
  /** To pay now, after the customer's balance. */
  due: number;
}

/** Returns what a switch to another price would cost now. During a trial it costs nothing. */
export function costOfSwitch(state: State, subscription: Subscription, price: Price, at: number): SwitchCost {
  const customer = existingCustomer(state, subscription);
  const [item] = subscription.items.data;
  if (subscription.status === 'trialing' || item === undefined) {
    return { credit: 0, due: 0 };
  }
  const { current_period_start: start, current_period_end: end } = item;
  const credit = Math.round((item.price.unit_amount * Math.max(0, end - at)) / (end - start));
  return { credit, due: Math.max(0, price.unit_amount - credit + (customer?.balance ?? 0)) };
}

/**
 * Switches an active or trialing subscription to another price, as the customer portal does when it is set to
 * invoice at once. A trial continues. Otherwise a new period starts now, because the billing interval differs.
 * Its invoice deducts the unused time of the old period, and any remainder goes to the customer's balance. See
 * https://docs.stripe.com/billing/subscriptions/prorations
 *
 * @returns undefined when the card is declined; nothing has changed then
 */
export function switchPlan(
  state: State,
  subscription: Subscription,
  price: Price,
  cause: Cause,
): StripeEvent[] | undefined {
  const customer = existingCustomer(state, subscription);
  const [item] = subscription.items.data;
  if (customer === undefined || item === undefined) {
    return [];
  }
  const { credit, due } = costOfSwitch(state, subscription, price, cause.at);
  if (due > 0 && cardOf(state, subscription.customer) === 'declined') {
    return undefined;
  }
  const before = structuredClone(subscription);
  const unused = { credit, item: structuredClone(item) };
  item.price = price;
  if (subscription.status === 'trialing') {
    return [buildEvent(cause, 'customer.subscription.updated', subscription, before)];
  }
  subscription.billing_cycle_anchor = cause.at;
  item.current_period_start = cause.at;
  item.current_period_end = periodEnd(cause.at, price.recurring.interval, cause.at);
  const invoice = draftInvoice(state, customer, subscription, 'subscription_update', cause, unused);
  return [
    buildEvent(cause, 'customer.subscription.updated', subscription, before),
    ...chargeInvoice(state, subscription, invoice, cause),
  ];
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
  const customer = existingCustomer(state, subscription);
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

function existingCustomer(state: State, subscription: Subscription): Customer | undefined {
  const customer = state.customers.get(subscription.customer);
  return customer === undefined || 'deleted' in customer ? undefined : customer;
}
