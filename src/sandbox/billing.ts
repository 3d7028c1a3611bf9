import { buildCustomer, buildInvoice, buildSubscription } from './objects.ts';
import { buildEvent } from './events.ts';
import type { Cause } from './events.ts';
import type { State } from './state.ts';
import { periodEnd } from './time.ts';
import type {
  BillingReason,
  CheckoutSession,
  Customer,
  DeletedCustomer,
  Invoice,
  Order,
  StripeEvent,
  Subscription,
} from './types.ts';

// What can happen to customers and their money. Each function changes the state at once and returns the events
// that tell of it; publishing them is the caller's part.

/**
 * Lets the card be charged: the checkout is completed, a subscription starts and its first invoice is paid.
 * See https://docs.stripe.com/billing/subscriptions/build-subscriptions
 *
 * @param state what to change
 * @param session an open session
 * @param order what it sells
 * @param cause when, and who asked
 * @returns three events, in no order that a receiver may rely on; undefined, and nothing changed, when the
 *   session's customer was deleted meanwhile
 */
export function completeCheckout(
  state: State,
  session: CheckoutSession,
  order: Order,
  cause: Cause,
): StripeEvent[] | undefined {
  const customer = payingCustomer(state, session, cause);
  if (customer === undefined) {
    return undefined;
  }
  const subscription = buildSubscription(cause.at, customer.id, order);
  state.subscriptions.set(subscription.id, subscription);
  const invoice = payInvoice(state, customer, subscription, 'subscription_create', cause);
  session.status = 'complete';
  session.payment_status = order.trialDays > 0 ? 'no_payment_required' : 'paid';
  session.customer = customer.id;
  session.subscription = subscription.id;
  session.invoice = invoice.id;
  session.url = null;
  return [
    buildEvent(cause, 'customer.subscription.created', subscription),
    buildEvent(cause, 'invoice.paid', invoice),
    buildEvent(cause, 'checkout.session.completed', session),
  ];
}

/**
 * Closes an open checkout for good: https://docs.stripe.com/api/checkout/sessions/expire
 *
 * @param session an open session
 * @param cause when, and who asked
 * @returns the event
 */
export function expireCheckout(session: CheckoutSession, cause: Cause): StripeEvent[] {
  session.status = 'expired';
  session.url = null;
  return [buildEvent(cause, 'checkout.session.expired', session)];
}

/**
 * Ends a subscription now; nothing is paid back. See https://docs.stripe.com/api/subscriptions/cancel
 *
 * @param subscription one that has not ended
 * @param cause when, and who asked
 * @returns the event
 */
export function cancelNow(subscription: Subscription, cause: Cause): StripeEvent[] {
  subscription.status = 'canceled';
  subscription.canceled_at ??= cause.at;
  subscription.ended_at = cause.at;
  subscription.cancellation_details.reason = 'cancellation_requested';
  return [buildEvent(cause, 'customer.subscription.deleted', subscription)];
}

/**
 * Lets a subscription run out: it stays as it is until the period that was paid for ends.
 *
 * @param subscription one that has not ended
 * @param cause when, and who asked
 * @returns the event; none when it was to run out already
 */
export function cancelAtPeriodEnd(subscription: Subscription, cause: Cause): StripeEvent[] {
  if (subscription.cancel_at_period_end) {
    return [];
  }
  const before = structuredClone(subscription);
  subscription.cancel_at_period_end = true;
  subscription.cancel_at = currentPeriodEnd(subscription);
  subscription.canceled_at = cause.at;
  subscription.cancellation_details.reason = 'cancellation_requested';
  return [buildEvent(cause, 'customer.subscription.updated', subscription, before)];
}

/**
 * Lets the current period pass, as if its end had come: the plan renews and is charged, a trial becomes a paid
 * plan, and a subscription that was to run out ends. Only this subscription's period moves, the clock does not.
 *
 * @param state what to change
 * @param subscription one that has not ended
 * @param cause when, and who asked
 * @returns the events
 */
export function letPeriodPass(state: State, subscription: Subscription, cause: Cause): StripeEvent[] {
  const customer = state.customers.get(subscription.customer);
  if (subscription.cancel_at_period_end || customer === undefined || 'deleted' in customer) {
    return cancelNow(subscription, cause);
  }
  const before = structuredClone(subscription);
  subscription.status = 'active';
  for (const item of subscription.items.data) {
    item.current_period_start = item.current_period_end;
    item.current_period_end = periodEnd(
      subscription.billing_cycle_anchor,
      item.price.recurring.interval,
      item.current_period_start,
    );
  }
  const invoice = payInvoice(state, customer, subscription, 'subscription_cycle', cause);
  return [
    buildEvent(cause, 'customer.subscription.updated', subscription, before),
    buildEvent(cause, 'invoice.paid', invoice),
  ];
}

/**
 * Deletes a customer and ends what they subscribed to: https://docs.stripe.com/api/customers/delete
 *
 * @param state what to change
 * @param customer one that is not deleted
 * @param cause when, and who asked
 * @returns the events: one for each subscription that ended, then the customer's own
 */
export function deleteCustomer(state: State, customer: Customer, cause: Cause): StripeEvent[] {
  const events = subscriptionsOf(state, customer.id)
    .filter((subscription) => !hasEnded(subscription))
    .flatMap((subscription) => cancelNow(subscription, cause));
  const tombstone: DeletedCustomer = { id: customer.id, object: 'customer', deleted: true };
  state.customers.set(customer.id, tombstone);
  return [...events, buildEvent(cause, 'customer.deleted', customer)];
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
  return subscription.status === 'canceled';
}

/**
 * @param subscription any subscription
 * @returns epoch seconds at which the period that is paid for (or the trial) ends
 */
export function currentPeriodEnd(subscription: Subscription): number {
  return Math.max(...subscription.items.data.map((item) => item.current_period_end));
}

/** The customer who pays a checkout; one that was opened for nobody in particular makes a new customer. */
function payingCustomer(state: State, session: CheckoutSession, cause: Cause): Customer | undefined {
  if (session.customer !== null) {
    const known = state.customers.get(session.customer);
    return known === undefined || 'deleted' in known ? undefined : known;
  }
  const email = session.customer_email;
  const customer = buildCustomer(cause.at, { email, name: null, description: null, metadata: {} });
  state.customers.set(customer.id, customer);
  return customer;
}

function payInvoice(
  state: State,
  customer: Customer,
  subscription: Subscription,
  reason: BillingReason,
  cause: Cause,
): Invoice {
  const invoice = buildInvoice(cause.at, customer, subscription, reason);
  customer.next_invoice_sequence += 1;
  customer.currency = invoice.currency;
  subscription.latest_invoice = invoice.id;
  state.invoices.set(invoice.id, invoice);
  return invoice;
}
