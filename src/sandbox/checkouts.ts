import { buildSubscription, discountOn } from './build-objects.ts';
import { createCustomer } from './customers.ts';
import { buildEvent, causeAt } from './events.ts';
import type { Cause } from './events.ts';
import { newId } from './ids.ts';
import { draftInvoice, finalizeInvoice } from './invoices.ts';
import { collect, finish, paymentOf } from './payments.ts';
import type { PaymentOutcome } from './payments.ts';
import { Refusal } from './refusal.ts';
import type { Context } from './sandbox-context.ts';
import type { State } from './state.ts';
import { followPayment, payByHand, scheduleRetry } from './subscriptions.ts';
import type { CheckoutSession, Customer, Invoice, Order, StripeEvent, Subscription } from './types.ts';

/**
 * How a payment goes: at once, by a bank debit that takes days, or with the bank asking for authentication
 * first.
 */
export type CheckoutOutcome = 'paid' | 'bank_debit' | 'incomplete';

const PAYMENTS: Record<CheckoutOutcome, PaymentOutcome> = {
  paid: 'succeeded',
  bank_debit: 'processing',
  incomplete: 'requires_action',
};

/**
 * Pays for a checkout. A subscription starts with its first invoice, and the checkout completes unless the bank
 * asks for authentication. See https://docs.stripe.com/billing/subscriptions/build-subscriptions
 *
 * @param outcome must be `paid` when nothing is due
 * @returns the events, in no particular order. Undefined when the session's customer was deleted; nothing has
 *   changed then.
 */
export function payCheckout(
  state: State,
  session: CheckoutSession,
  order: Order,
  outcome: CheckoutOutcome,
  cause: Cause,
): StripeEvent[] | undefined {
  const payer = payingCustomer(state, session, cause);
  if (payer === undefined) {
    return undefined;
  }
  const { customer, events } = payer;
  const waiting = waitingSubscription(state, order);
  const before = structuredClone(waiting);
  const subscription = waiting ?? startSubscription(state, order, customer, cause);
  const invoice = firstInvoice(state, subscription);
  const due = invoice.amount_remaining > 0;
  if (due) {
    subscription.status = outcome === 'incomplete' ? 'incomplete' : 'active';
  }
  const money = collect(state, invoice, PAYMENTS[outcome], cause);
  if (before === undefined) {
    events.push(buildEvent(cause, 'customer.subscription.created', subscription));
  } else if (before.status !== subscription.status) {
    events.push(buildEvent(cause, 'customer.subscription.updated', subscription, before));
  }
  events.push(...money);
  if (due && outcome === 'incomplete') {
    order.incompleteSubscription = subscription.id;
    // The session is not complete, but from now on only this customer can pay it.
    session.customer = customer.id;
    return events;
  }
  const unpaid = outcome === 'bank_debit' ? 'unpaid' : 'paid';
  return [...events, complete(session, subscription, due ? unpaid : 'no_payment_required', cause)];
}

/** The invoice that the customer owes and can pay by hand. */
export function openInvoice(state: State, subscription: Subscription): Invoice | undefined {
  const invoice = state.invoices.get(subscription.latest_invoice ?? '');
  const owes = ['past_due', 'unpaid', 'incomplete'].includes(subscription.status);
  return owes && invoice?.status === 'open' ? invoice : undefined;
}

/**
 * Retries the open invoice of a past due, unpaid or incomplete subscription with the current card. A
 * successful payment completes the checkout of an incomplete subscription.
 *
 * @throws Refusal when there is nothing to pay, or a bank debit is pending
 */
export function retryPayment(state: State, subscription: Subscription, cause: Cause): StripeEvent[] {
  const invoice = openInvoice(state, subscription);
  if (!invoice) {
    throw new Refusal(`Subscription ${subscription.id} (${subscription.status}) has nothing to pay.`);
  }
  const events = payByHand(state, subscription, invoice, cause);
  const order = [...state.orders.values()].find((one) => one.incompleteSubscription === subscription.id);
  const session = state.checkouts.get(order?.id ?? '');
  return invoice.amount_remaining === 0 && session?.status === 'open'
    ? [...events, complete(session, subscription, 'paid', cause)]
    : events;
}

/**
 * Settles the bank debit that paid for a checkout: https://docs.stripe.com/payments/checkout/fulfill-orders#delayed
 *
 * @throws Refusal when no debit is pending
 */
export function settleCheckout(
  state: State,
  session: CheckoutSession,
  succeeded: boolean,
  cause: Cause,
): StripeEvent[] {
  const invoice = state.invoices.get(session.invoice ?? '');
  const subscription = state.subscriptions.get(session.subscription ?? '');
  const payment = invoice && paymentOf(state, invoice.id);
  const charge = state.charges.get(payment?.intent.latest_charge ?? '');
  if (payment?.intent.status !== 'processing' || !invoice || !charge || !subscription) {
    throw new Refusal(`No bank debit is pending for checkout ${session.id}.`);
  }
  if (!succeeded) {
    scheduleRetry(invoice, cause.at);
  }
  const money = finish(payment, charge, invoice, succeeded, cause);
  session.payment_status = succeeded ? 'paid' : 'unpaid';
  const outcome = succeeded ? 'succeeded' : 'failed';
  return [
    buildEvent(cause, `checkout.session.async_payment_${outcome}`, session),
    ...money,
    ...followPayment(state, subscription, invoice, cause),
  ];
}

/**
 * Applies a promotion code to the first payment.
 *
 * @param session must be open and without a discount
 * @param percentOff more than 0 and at most 100
 */
export function enterPromotionCode(session: CheckoutSession, order: Order, percentOff: number): void {
  order.percentOff = percentOff;
  const off = discountOn(session.amount_subtotal, percentOff);
  session.discounts = [{ coupon: null, promotion_code: newId('promo') }];
  session.amount_total = session.amount_subtotal - off;
  session.total_details.amount_discount = off;
}

/** Returns the subscription that still waits for the checkout's first payment. */
export function waitingSubscription(state: State, order: Order): Subscription | undefined {
  const subscription = state.subscriptions.get(order.incompleteSubscription ?? '');
  return subscription?.status === 'incomplete' ? subscription : undefined;
}

/** Expires an open checkout: https://docs.stripe.com/api/checkout/sessions/expire */
export function expireCheckout(session: CheckoutSession, cause: Cause): StripeEvent[] {
  session.status = 'expired';
  session.url = null;
  return [buildEvent(cause, 'checkout.session.expired', session)];
}

/**
 * Expires a checkout whose time is up. Call it before using a session, because the clock is checked only
 * now and then. Resolves when the event has been published.
 *
 * @param at epoch seconds
 */
export async function expireIfDue(context: Context, session: CheckoutSession, at: number): Promise<void> {
  if (session.status === 'open' && at >= session.expires_at) {
    await context.publish(expireCheckout(session, causeAt(session.expires_at)));
  }
}

/**
 * Returns the customer who pays for a checkout, and creates one if the checkout has none. Undefined when the
 * customer was deleted.
 */
function payingCustomer(
  state: State,
  session: CheckoutSession,
  cause: Cause,
): { customer: Customer; events: StripeEvent[] } | undefined {
  if (session.customer !== null) {
    const known = state.customers.get(session.customer);
    return known === undefined || 'deleted' in known ? undefined : { customer: known, events: [] };
  }
  const given = { email: session.customer_email, name: null, metadata: {}, test_clock: null };
  return createCustomer(state, given, cause);
}

function startSubscription(state: State, order: Order, customer: Customer, cause: Cause): Subscription {
  const subscription = buildSubscription(cause.at, customer, order);
  state.subscriptions.set(subscription.id, subscription);
  if (order.percentOff > 0) {
    const discount = { id: newId('di'), percentOff: order.percentOff };
    state.discounts.set(discount.id, discount);
    subscription.discounts = [discount.id];
  }
  const invoice = draftInvoice(state, customer, subscription, 'subscription_create', cause);
  finalizeInvoice(state, invoice, cause);
  return subscription;
}

function firstInvoice(state: State, subscription: Subscription): Invoice {
  const invoice = state.invoices.get(subscription.latest_invoice ?? '');
  if (invoice === undefined) {
    throw new Error(`Subscription ${subscription.id} has no invoice.`);
  }
  return invoice;
}

function complete(
  session: CheckoutSession,
  subscription: Subscription,
  paymentStatus: CheckoutSession['payment_status'],
  cause: Cause,
): StripeEvent {
  session.status = 'complete';
  session.payment_status = paymentStatus;
  session.customer = subscription.customer;
  session.subscription = subscription.id;
  session.invoice = subscription.latest_invoice;
  session.url = null;
  return buildEvent(cause, 'checkout.session.completed', session);
}
