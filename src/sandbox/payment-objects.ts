import type { Stripe } from 'stripe';

import { newId } from './ids.ts';
import { DAY } from './time.ts';
import type { Charge, Invoice, PartOf, PaymentIntent, Unexpanded } from './types.ts';

// `changing` is as in build-objects.ts.

/** Time to answer a dispute, s. */
const EVIDENCE_TIME = 20 * DAY;

/**
 * Builds a payment intent for an invoice, before the first attempt:
 * https://docs.stripe.com/api/payment_intents/object
 */
export function buildPaymentIntent(at: number, invoice: Invoice) {
  const id = newId('pi');
  const changing: Unexpanded<
    Pick<Stripe.PaymentIntent, 'canceled_at' | 'cancellation_reason' | 'latest_charge' | 'status'>
  > & {
    last_payment_error: PartOf<Stripe.PaymentIntent.LastPaymentError> | null;
    next_action: PartOf<Stripe.PaymentIntent.NextAction> | null;
  } = {
    canceled_at: null,
    cancellation_reason: null,
    last_payment_error: null,
    latest_charge: null,
    next_action: null,
    status: 'requires_payment_method',
  };
  return {
    id,
    object: 'payment_intent',
    amount: invoice.amount_remaining,
    amount_received: 0,
    capture_method: 'automatic',
    client_secret: `${id}_${newId('secret')}`,
    confirmation_method: 'automatic',
    created: at,
    currency: invoice.currency,
    customer: invoice.customer,
    description: describe(invoice),
    livemode: false,
    metadata: {},
    payment_method_types: ['card', 'us_bank_account'],
    ...changing,
  } satisfies PartOf<Stripe.PaymentIntent>;
}

/** Builds the link between an invoice and its payment: https://docs.stripe.com/api/invoice-payment/object */
export function buildInvoicePayment(at: number, invoice: Invoice, intent: PaymentIntent) {
  const changing: Pick<Stripe.InvoicePayment, 'amount_paid' | 'status' | 'status_transitions'> = {
    amount_paid: null,
    status: 'open',
    status_transitions: { canceled_at: null, paid_at: null },
  };
  return {
    id: newId('inpay'),
    object: 'invoice_payment',
    amount_requested: invoice.amount_remaining,
    created: at,
    currency: invoice.currency,
    invoice: invoice.id,
    is_default: true,
    livemode: false,
    payment: { type: 'payment_intent', payment_intent: intent.id },
    ...changing,
  } satisfies PartOf<Stripe.InvoicePayment>;
}

/**
 * Builds a pending charge: https://docs.stripe.com/api/charges/object
 *
 * @param method `us_bank_account` for a bank debit, which takes days
 */
export function buildCharge(
  at: number,
  invoice: Invoice,
  intent: PaymentIntent,
  method: 'card' | 'us_bank_account',
) {
  const changing: Unexpanded<
    Pick<
      Stripe.Charge,
      'captured' | 'disputed' | 'failure_code' | 'failure_message' | 'paid' | 'refunded' | 'status'
    >
  > = {
    captured: false,
    disputed: false,
    failure_code: null,
    failure_message: null,
    paid: false,
    refunded: false,
    status: 'pending',
  };
  return {
    id: newId(method === 'card' ? 'ch' : 'py'),
    object: 'charge',
    amount: intent.amount,
    amount_captured: 0,
    amount_refunded: 0,
    balance_transaction: null,
    created: at,
    currency: intent.currency,
    customer: intent.customer,
    description: intent.description,
    livemode: false,
    metadata: {},
    payment_intent: intent.id,
    payment_method: null,
    payment_method_details: { type: method },
    receipt_email: invoice.customer_email,
    ...changing,
  } satisfies PartOf<Stripe.Charge>;
}

/** Builds a successful refund: https://docs.stripe.com/api/refunds/object */
export function buildRefund(at: number, charge: Charge, amount: number) {
  const changing: Pick<Stripe.Refund, 'failure_reason' | 'status'> = { status: 'succeeded' };
  return {
    id: newId('re'),
    object: 'refund',
    amount,
    balance_transaction: null,
    charge: charge.id,
    created: at,
    currency: charge.currency,
    customer: charge.customer,
    metadata: {},
    payment_intent: charge.payment_intent,
    reason: 'requested_by_customer',
    receipt_number: null,
    ...changing,
  } satisfies PartOf<Stripe.Refund>;
}

/** Builds a dispute on the full amount of a charge, in the status `needs_response`: https://docs.stripe.com/api/disputes/object */
export function buildDispute(at: number, charge: Charge) {
  const changing: {
    evidence_details: { due_by: number | null };
    status: 'needs_response' | 'won' | 'lost' | 'appeal_under_review';
  } = { evidence_details: { due_by: at + EVIDENCE_TIME }, status: 'needs_response' };
  return {
    id: newId('du'),
    object: 'dispute',
    amount: charge.amount,
    balance_transactions: [],
    charge: charge.id,
    created: at,
    currency: charge.currency,
    evidence: {},
    is_charge_refundable: false,
    livemode: false,
    metadata: {},
    payment_intent: charge.payment_intent,
    reason: 'fraudulent',
    ...changing,
  } satisfies PartOf<Stripe.Dispute>;
}

function describe(invoice: Invoice): string {
  return invoice.billing_reason === 'subscription_create' ? 'Subscription creation' : 'Subscription update';
}
