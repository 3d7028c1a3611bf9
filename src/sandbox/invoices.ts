import { buildInvoice } from './build-objects.ts';
import { buildEvent } from './events.ts';
import type { Cause } from './events.ts';
import { cancelPayment } from './payments.ts';
import type { State } from './state.ts';
import type { BillingReason, Customer, Invoice, StripeEvent, Subscription, UnusedTime } from './types.ts';

/**
 * Drafts the invoice of a subscription's current period and makes it the latest invoice. The first invoice that a
 * promotion code reduces removes the code from the subscription: https://docs.stripe.com/billing/subscriptions/coupons
 * The customer's balance is applied to the discounted total, before the card is charged:
 * https://docs.stripe.com/billing/customer/balance
 */
export function draftInvoice(
  state: State,
  customer: Customer,
  subscription: Subscription,
  reason: BillingReason,
  cause: Cause,
  unused: UnusedTime | null = null,
): Invoice {
  const discount = state.discounts.get(subscription.discounts[0] ?? '') ?? null;
  const invoice = buildInvoice(cause.at, customer, subscription, reason, { discount, unused });
  if (invoice.subtotal > 0) {
    subscription.discounts = [];
  }
  customer.currency = invoice.currency;
  customer.balance = invoice.ending_balance;
  subscription.latest_invoice = invoice.id;
  state.invoices.set(invoice.id, invoice);
  return invoice;
}

/** Finalizes a draft and numbers it: https://docs.stripe.com/invoicing/integration/workflow-transitions */
export function finalizeInvoice(state: State, invoice: Invoice, cause: Cause): void {
  const customer = state.customers.get(invoice.customer);
  if (customer !== undefined && !('deleted' in customer)) {
    invoice.number = `${customer.invoice_prefix}-${String(customer.next_invoice_sequence).padStart(4, '0')}`;
    customer.next_invoice_sequence += 1;
  }
  invoice.status = 'open';
  invoice.automatically_finalizes_at = null;
  invoice.status_transitions.finalized_at = cause.at;
}

export function voidInvoice(state: State, invoice: Invoice, cause: Cause): StripeEvent[] {
  stopCollection(invoice);
  cancelPayment(state, invoice, cause);
  invoice.status = 'void';
  invoice.status_transitions.voided_at = cause.at;
  return [buildEvent(cause, 'invoice.voided', invoice)];
}

/** Cancels everything that would happen to an invoice automatically. */
export function stopCollection(invoice: Invoice): void {
  invoice.auto_advance = false;
  invoice.automatically_finalizes_at = null;
  invoice.next_payment_attempt = null;
}

/** Returns all invoices of a subscription, oldest first. */
export function invoicesOf(state: State, subscription: Subscription): Invoice[] {
  return [...state.invoices.values()].filter(
    (invoice) => invoice.parent.subscription_details.subscription === subscription.id,
  );
}
