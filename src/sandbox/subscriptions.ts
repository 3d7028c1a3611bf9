import { StripeApiError } from './errors.ts';
import { buildEvent, changedFrom } from './events.ts';
import type { Cause } from './events.ts';
import {
  draftInvoice,
  finalizeInvoice,
  invoicesOf,
  leaveAlone,
  markUncollectible,
  voidInvoice,
} from './invoices.ts';
import { collect } from './payments.ts';
import type { CardBehaviour, State } from './state.ts';
import { DAY, HOUR, periodEnd } from './time.ts';
import type { Customer, Invoice, PauseCollection, Price, StripeEvent, Subscription } from './types.ts';

// What can happen to a subscription once it exists. Each function changes the state at once and returns the
// events that tell of it; publishing them is the caller's part.
// https://docs.stripe.com/billing/subscriptions/overview#subscription-lifecycle

/** A first payment that is not made within 23 hours ends the subscription before it began. */
export const INCOMPLETE_LIFETIME = 23 * HOUR;

/** The draft of a trial's end, unlike that of a renewal here, waits for an hour before it is charged. */
const DRAFT_LIFETIME = HOUR;

/** Seconds from one failed try to the next; after the last one the subscription is canceled. */
const RETRY_DELAYS = [3 * DAY, 5 * DAY, 7 * DAY];

/** What `POST /v1/subscriptions/:id` can change; what is absent stays. */
export interface SubscriptionChanges {
  cancelAtPeriodEnd?: boolean | undefined;
  /** Epoch seconds; null takes it back. */
  cancelAt?: number | null | undefined;
  metadata?: Record<string, string> | undefined;
  price?: Price | undefined;
  pauseCollection?: PauseCollection | null | undefined;
  /** Ends the trial at once. */
  endTrial?: boolean | undefined;
}

/**
 * Changes a subscription: https://docs.stripe.com/api/subscriptions/update
 * A price of another interval starts a new period and charges it whole; nothing is prorated.
 *
 * @param state what to change
 * @param subscription one that has not ended
 * @param changes what is to be different
 * @param cause when, and who asked
 * @returns the events; none when all was so already
 */
export function changeSubscription(
  state: State,
  subscription: Subscription,
  changes: SubscriptionChanges,
  cause: Cause,
): StripeEvent[] {
  const before = structuredClone(subscription);
  let startsPeriod = false;
  if (changes.metadata !== undefined) {
    subscription.metadata = changes.metadata;
  }
  if (changes.pauseCollection !== undefined) {
    subscription.pause_collection = changes.pauseCollection;
  }
  for (const item of changes.price === undefined ? [] : subscription.items.data) {
    const { price } = changes;
    if (price !== undefined && price.id !== item.price.id) {
      const trial = subscription.status === 'trialing';
      startsPeriod ||= !trial && price.recurring.interval !== item.price.recurring.interval;
      item.price = price;
    }
  }
  if (changes.endTrial === true && subscription.status === 'trialing') {
    subscription.trial_end = cause.at;
    subscription.status = 'active';
    startsPeriod = true;
  }
  if (startsPeriod) {
    startPeriodNow(subscription, cause.at);
  }
  changeEnd(subscription, changes, cause.at);
  const customer = startsPeriod ? livingCustomer(state, subscription) : undefined;
  const invoice = customer && draftInvoice(state, customer, subscription, 'subscription_update', cause);
  if (Object.keys(changedFrom(before, subscription)).length === 0) {
    return [];
  }
  return [
    buildEvent(cause, 'customer.subscription.updated', subscription, before),
    ...(invoice ? chargeInvoice(state, subscription, invoice, cause) : []),
  ];
}

/**
 * Ends a subscription now; nothing is paid back, and what is unpaid is not asked for any more.
 * See https://docs.stripe.com/api/subscriptions/cancel
 *
 * @param state what to change
 * @param subscription one that has not ended
 * @param cause when, and who asked
 * @param reason `payment_failed` when Stripe gave up on the card
 * @returns the event
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

/**
 * Ends a subscription whose first payment was never made; its invoice becomes void.
 *
 * @param state what to change
 * @param subscription an incomplete one
 * @param cause when
 * @returns the events
 */
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
 * Ends a trial because its time is over: the subscription turns active, and its invoice is charged an hour later.
 * Without a payment method it does what its trial settings say.
 * See https://docs.stripe.com/billing/subscriptions/trials
 *
 * @param state what to change
 * @param subscription a trialing one
 * @param cause when
 * @returns the events
 */
export function endTrial(state: State, subscription: Subscription, cause: Cause): StripeEvent[] {
  const { invoice, events } = startNextPeriod(state, subscription, cause);
  if (invoice !== undefined) {
    invoice.automatically_finalizes_at = cause.at + DRAFT_LIFETIME;
  }
  return events;
}

/**
 * Starts a subscription's next period, or its first one after a trial, and charges it at once.
 *
 * @param state what to change
 * @param subscription one that is active, past due or trialing
 * @param cause when
 * @returns the events
 */
export function renew(state: State, subscription: Subscription, cause: Cause): StripeEvent[] {
  const { invoice, events } = startNextPeriod(state, subscription, cause);
  return invoice === undefined ? events : [...events, ...chargeInvoice(state, subscription, invoice, cause)];
}

/**
 * Takes up a paused subscription with a new period, if the card can be charged for it:
 * https://docs.stripe.com/api/subscriptions/resume
 *
 * @param state what to change
 * @param subscription a paused one
 * @param cause when, and who asked
 * @returns the events
 * @throws 402 when there is no card or it is declined
 */
export function resume(state: State, subscription: Subscription, cause: Cause): StripeEvent[] {
  const customer = livingCustomer(state, subscription);
  if (customer === undefined || cardOf(state, subscription.customer) !== 'works') {
    throw new StripeApiError(402, {
      type: 'card_error',
      code: 'card_declined',
      message: 'The subscription cannot be resumed: there is no card that can be charged.',
    });
  }
  const before = structuredClone(subscription);
  subscription.status = 'active';
  startPeriodNow(subscription, cause.at);
  const invoice = draftInvoice(state, customer, subscription, 'subscription_update', cause);
  return [
    buildEvent(cause, 'customer.subscription.updated', subscription, before),
    buildEvent(cause, 'customer.subscription.resumed', subscription),
    ...chargeInvoice(state, subscription, invoice, cause),
  ];
}

/**
 * Charges an invoice because its time has come: a draft becomes final first, and while collection is paused
 * nothing is collected. See https://docs.stripe.com/billing/subscriptions/pause-payment
 *
 * @param state what to change
 * @param subscription what it is for
 * @param invoice a draft, or an open invoice
 * @param cause when
 * @returns the events
 */
export function chargeInvoice(
  state: State,
  subscription: Subscription,
  invoice: Invoice,
  cause: Cause,
): StripeEvent[] {
  if (invoice.status === 'draft') {
    const paused = subscription.pause_collection?.behavior;
    if (paused === 'keep_as_draft') {
      leaveAlone(invoice);
      return [];
    }
    finalizeInvoice(state, invoice, cause);
    if (paused !== undefined) {
      return paused === 'void' ? voidInvoice(state, invoice, cause) : markUncollectible(invoice, cause);
    }
  }
  if (invoice.amount_remaining > 0) {
    // Only tries that are made by themselves count, so that a person's own try does not shorten the schedule.
    invoice.attempt_count += 1;
    scheduleRetry(invoice, cause.at);
  }
  const works = cardOf(state, subscription.customer) === 'works';
  const events = collect(state, invoice, works ? 'succeeded' : 'declined', cause);
  return [...events, ...followPayment(state, subscription, invoice, cause)];
}

/**
 * Sets when an invoice is charged again, should the try that is being made fail; after the last one, never.
 *
 * @param invoice an open invoice whose `attempt_count` counts the try
 * @param at epoch seconds of the try
 */
export function scheduleRetry(invoice: Invoice, at: number): void {
  const delay = RETRY_DELAYS[invoice.attempt_count - 1];
  invoice.next_payment_attempt = delay === undefined || !invoice.auto_advance ? null : at + delay;
}

/**
 * Charges an open invoice because a person wants it paid now. The schedule of tries stays as it is.
 *
 * @param state what to change
 * @param subscription what it is for
 * @param invoice an open invoice
 * @param cause when, and who asked
 * @returns the events
 */
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
 * Lets a subscription follow what became of its invoice: paid, it is active again; failed, it is past due, and
 * canceled once there is no further try. See https://docs.stripe.com/billing/revenue-recovery
 *
 * @param state what to change
 * @param subscription what the invoice is for
 * @param invoice one that was just tried
 * @param cause when, and who asked
 * @param by whether a person tried; then the schedule says what happens next
 * @returns the events; none when nothing follows
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
 * Leaves a past due subscription unpaid: what Stripe does instead of canceling it, when the account is set so.
 * See https://docs.stripe.com/billing/revenue-recovery
 *
 * @param state what to change
 * @param subscription a past due one
 * @param cause when
 * @returns the event
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
 * Lets the next thing that waits for time happen to a subscription, as if its moment had come: a payment is
 * tried, or the current period passes. Only this subscription moves, the clock does not.
 *
 * @param state what to change
 * @param subscription one that has not ended
 * @param cause when, and who asked
 * @returns the events; none for a paused one, which no time moves
 */
export function letTimePass(state: State, subscription: Subscription, cause: Cause): StripeEvent[] {
  const invoice = waitingInvoice(state, subscription);
  if (invoice !== undefined) {
    return chargeInvoice(state, subscription, invoice, cause);
  }
  const { cancel_at: cancelAt } = subscription;
  switch (subscription.status) {
    case 'incomplete':
      return expireIncomplete(state, subscription, cause);
    case 'trialing':
    case 'active':
    case 'past_due':
      return cancelAt !== null && cancelAt <= currentPeriodEnd(subscription)
        ? cancelNow(state, subscription, cause)
        : renew(state, subscription, cause);
    default:
      return [];
  }
}

/**
 * @param state where to look
 * @param subscription any subscription
 * @returns its latest invoice while that is to be charged, or charged again, by itself
 */
export function waitingInvoice(state: State, subscription: Subscription): Invoice | undefined {
  const invoice = state.invoices.get(subscription.latest_invoice ?? '');
  const due = invoice?.automatically_finalizes_at ?? invoice?.next_payment_attempt ?? null;
  return due === null ? undefined : invoice;
}

/**
 * @param state where to look
 * @param customer a customer's id
 * @returns all subscriptions of that customer, newest first
 */
export function subscriptionsOf(state: State, customer: string): Subscription[] {
  return [...state.subscriptions.values()].filter((one) => one.customer === customer).reverse();
}

/**
 * @param subscription any subscription
 * @returns whether it is over for good
 */
export function hasEnded(subscription: Subscription): boolean {
  return subscription.status === 'canceled' || subscription.status === 'incomplete_expired';
}

/**
 * @param subscription any subscription
 * @returns epoch seconds at which the period that is paid for (or the trial) ends
 */
export function currentPeriodEnd(subscription: Subscription): number {
  return Math.max(...subscription.items.data.map((item) => item.current_period_end));
}

/**
 * @param state where to look
 * @param customer a customer's id
 * @returns how their card takes charges
 */
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
    const { missing_payment_method: otherwise } = subscription.trial_settings.end_behavior;
    const without = cardOf(state, customer.id) === 'none';
    if (without && otherwise === 'cancel') {
      return { events: cancelNow(state, subscription, cause, null) };
    }
    if (without && otherwise === 'pause') {
      return {
        events: [
          turn(subscription, 'paused', cause),
          buildEvent(cause, 'customer.subscription.paused', subscription),
        ],
      };
    }
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

function startPeriodNow(subscription: Subscription, at: number): void {
  subscription.billing_cycle_anchor = at;
  for (const item of subscription.items.data) {
    item.current_period_start = at;
    item.current_period_end = periodEnd(at, item.price.recurring.interval, at);
  }
}

/** Decides when, if ever, a subscription runs out. */
function changeEnd(subscription: Subscription, changes: SubscriptionChanges, at: number): void {
  const { cancelAtPeriodEnd, cancelAt } = changes;
  const atPeriodEnd = cancelAtPeriodEnd ?? (cancelAt === undefined && subscription.cancel_at_period_end);
  const fixed = cancelAt === undefined && cancelAtPeriodEnd === undefined ? subscription.cancel_at : cancelAt;
  const end = atPeriodEnd ? currentPeriodEnd(subscription) : (fixed ?? null);
  if (end === null) {
    subscription.canceled_at = null;
    subscription.cancellation_details.reason = null;
  } else if (subscription.cancel_at === null) {
    subscription.canceled_at = at;
    subscription.cancellation_details.reason = 'cancellation_requested';
  }
  subscription.cancel_at_period_end = atPeriodEnd;
  subscription.cancel_at = end;
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
