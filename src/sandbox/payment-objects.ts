import { newId } from './ids.ts';
import { DAY } from './time.ts';
import type { Charge, Dispute, Invoice, InvoicePayment, PaymentIntent, Refund } from './types.ts';

/** Seconds in which a dispute has to be answered. */
const EVIDENCE_TIME = 20 * DAY;

/** A payment intent for an invoice, not tried yet: https://docs.stripe.com/api/payment_intents/object */
export function buildPaymentIntent(at: number, invoice: Invoice): PaymentIntent {
  const id = newId('pi');
  return {
    id,
    object: 'payment_intent',
    amount: invoice.amount_remaining,
    amount_received: 0,
    canceled_at: null,
    cancellation_reason: null,
    capture_method: 'automatic',
    client_secret: `${id}_${newId('secret')}`,
    confirmation_method: 'automatic',
    created: at,
    currency: invoice.currency,
    customer: invoice.customer,
    description: describe(invoice),
    last_payment_error: null,
    latest_charge: null,
    livemode: false,
    metadata: {},
    next_action: null,
    payment_method_types: ['card', 'us_bank_account'],
    status: 'requires_payment_method',
  };
}

/** The link between an invoice and its payment: https://docs.stripe.com/api/invoice-payment/object */
export function buildInvoicePayment(at: number, invoice: Invoice, intent: PaymentIntent): InvoicePayment {
  return {
    id: newId('inpay'),
    object: 'invoice_payment',
    amount_paid: null,
    amount_requested: invoice.amount_remaining,
    created: at,
    currency: invoice.currency,
    invoice: invoice.id,
    is_default: true,
    livemode: false,
    payment: { type: 'payment_intent', payment_intent: intent.id },
    status: 'open',
    status_transitions: { canceled_at: null, paid_at: null },
  };
}

/**
 * A pending charge: https://docs.stripe.com/api/charges/object
 *
 * @param method `us_bank_account` for a bank debit, which takes days
 */
export function buildCharge(
  at: number,
  invoice: Invoice,
  intent: PaymentIntent,
  method: Charge['payment_method_details']['type'],
): Charge {
  return {
    id: newId(method === 'card' ? 'ch' : 'py'),
    object: 'charge',
    amount: intent.amount,
    amount_captured: 0,
    amount_refunded: 0,
    balance_transaction: null,
    captured: false,
    created: at,
    currency: intent.currency,
    customer: intent.customer,
    description: intent.description,
    disputed: false,
    failure_code: null,
    failure_message: null,
    livemode: false,
    metadata: {},
    paid: false,
    payment_intent: intent.id,
    payment_method: null,
    payment_method_details: { type: method },
    receipt_email: invoice.customer_email,
    refunded: false,
    status: 'pending',
  };
}

/** A successful refund: https://docs.stripe.com/api/refunds/object */
export function buildRefund(
  at: number,
  charge: Charge,
  given: Pick<Refund, 'amount' | 'reason' | 'metadata'>,
): Refund {
  return {
    id: newId('re'),
    object: 'refund',
    amount: given.amount,
    balance_transaction: null,
    charge: charge.id,
    created: at,
    currency: charge.currency,
    customer: charge.customer,
    metadata: given.metadata,
    payment_intent: charge.payment_intent,
    reason: given.reason,
    receipt_number: null,
    status: 'succeeded',
  };
}

/** A dispute about a whole charge that waits for an answer: https://docs.stripe.com/api/disputes/object */
export function buildDispute(at: number, charge: Charge): Dispute {
  return {
    id: newId('du'),
    object: 'dispute',
    amount: charge.amount,
    balance_transactions: [],
    charge: charge.id,
    created: at,
    currency: charge.currency,
    evidence: {},
    evidence_details: {
      due_by: at + EVIDENCE_TIME,
      has_evidence: false,
      past_due: false,
      submission_count: 0,
    },
    is_charge_refundable: false,
    livemode: false,
    metadata: {},
    payment_intent: charge.payment_intent,
    reason: 'fraudulent',
    status: 'needs_response',
  };
}

function describe(invoice: Invoice): string {
  return invoice.billing_reason === 'subscription_create' ? 'Subscription creation' : 'Subscription update';
}
