import { buildEvent } from './events.ts';
import type { Cause } from './events.ts';
import { buildCharge, buildInvoicePayment, buildPaymentIntent } from './payment-objects.ts';
import type { State } from './state.ts';
import type { Charge, Invoice, InvoicePayment, PaymentIntent, StripeEvent } from './types.ts';

// Collects open invoices. Nothing here depends on subscriptions.

/** The result of an attempt to collect an invoice. A bank debit stays `processing` for days. */
export type PaymentOutcome = 'succeeded' | 'declined' | 'requires_action' | 'processing';

export interface Payment {
  invoicePayment: InvoicePayment;
  intent: PaymentIntent;
}

/**
 * Tries to collect an open invoice. An invoice of zero is paid without a payment. All attempts share one
 * payment intent, and each has its own charge. See https://docs.stripe.com/payments/paymentintents/lifecycle
 */
export function collect(
  state: State,
  invoice: Invoice,
  outcome: PaymentOutcome,
  cause: Cause,
): StripeEvent[] {
  invoice.attempted = true;
  if (invoice.amount_remaining === 0) {
    return [markPaid(invoice, cause)];
  }
  const payment = paymentOf(state, invoice.id) ?? startPayment(state, invoice, cause);
  const { intent } = payment;
  invoice.attempt_count = Math.max(invoice.attempt_count, 1);
  if (outcome === 'requires_action') {
    intent.status = 'requires_action';
    intent.next_action = { type: 'use_stripe_sdk' };
    return [buildEvent(cause, 'invoice.payment_action_required', invoice)];
  }
  intent.next_action = null;
  const method = outcome === 'processing' ? 'us_bank_account' : 'card';
  const charge = buildCharge(cause.at, invoice, intent, method);
  state.charges.set(charge.id, charge);
  intent.latest_charge = charge.id;
  if (outcome === 'processing') {
    intent.status = 'processing';
    return [buildEvent(cause, 'charge.pending', charge)];
  }
  return finish(payment, charge, invoice, outcome === 'succeeded', cause);
}

/** Cancels the payment of an invoice that is no longer due. */
export function cancelPayment(state: State, invoice: Invoice, cause: Cause): void {
  const payment = paymentOf(state, invoice.id);
  if (payment !== undefined) {
    const { invoicePayment, intent } = payment;
    invoicePayment.status = 'canceled';
    invoicePayment.status_transitions.canceled_at = cause.at;
    intent.status = 'canceled';
    intent.canceled_at = cause.at;
    intent.cancellation_reason = 'void_invoice';
    intent.next_action = null;
  }
}

/** Returns an invoice's payment; undefined when nothing was due or no attempt was made yet. */
export function paymentOf(state: State, invoiceId: string): Payment | undefined {
  for (const invoicePayment of state.invoicePayments.values()) {
    if (invoicePayment.invoice === invoiceId) {
      const intent = state.paymentIntents.get(invoicePayment.payment.payment_intent);
      return intent && { invoicePayment, intent };
    }
  }
  return undefined;
}

function startPayment(state: State, invoice: Invoice, cause: Cause): Payment {
  const intent = buildPaymentIntent(cause.at, invoice);
  const invoicePayment = buildInvoicePayment(cause.at, invoice, intent);
  state.paymentIntents.set(intent.id, intent);
  state.invoicePayments.set(invoicePayment.id, invoicePayment);
  return { invoicePayment, intent };
}

/** Ends a payment that was under way: it succeeds or fails. */
export function finish(
  { invoicePayment, intent }: Payment,
  charge: Charge,
  invoice: Invoice,
  succeeded: boolean,
  cause: Cause,
): StripeEvent[] {
  if (!succeeded) {
    const card = charge.payment_method_details.type === 'card';
    const message = card ? 'Your card was declined.' : 'The bank returned the debit.';
    charge.status = 'failed';
    charge.failure_code = card ? 'card_declined' : 'insufficient_funds';
    charge.failure_message = message;
    intent.status = 'requires_payment_method';
    intent.last_payment_error = card
      ? { type: 'card_error', code: 'card_declined', message }
      : { type: 'invalid_request_error', code: 'payment_intent_payment_attempt_failed', message };
    return [buildEvent(cause, 'charge.failed', charge), buildEvent(cause, 'invoice.payment_failed', invoice)];
  }
  charge.status = 'succeeded';
  charge.paid = true;
  charge.captured = true;
  charge.amount_captured = charge.amount;
  intent.status = 'succeeded';
  intent.amount_received = intent.amount;
  intent.last_payment_error = null;
  invoicePayment.status = 'paid';
  invoicePayment.amount_paid = intent.amount;
  invoicePayment.status_transitions.paid_at = cause.at;
  const paid = markPaid(invoice, cause);
  return [
    buildEvent(cause, 'charge.succeeded', charge),
    buildEvent(cause, 'invoice_payment.paid', invoicePayment),
    paid,
  ];
}

function markPaid(invoice: Invoice, cause: Cause): StripeEvent {
  invoice.status = 'paid';
  invoice.amount_paid = invoice.amount_due;
  invoice.amount_remaining = 0;
  invoice.auto_advance = false;
  invoice.next_payment_attempt = null;
  invoice.status_transitions.paid_at = cause.at;
  return buildEvent(cause, 'invoice.paid', invoice);
}
