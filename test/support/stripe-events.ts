import { randomUUID } from 'node:crypto';

import { START } from './server.ts';

let serial = 0;

/** A Stripe id that no other test has. */
export function stripeId(prefix: string): string {
  serial += 1;
  return `${prefix}_${serial}_${randomUUID().slice(0, 8)}`;
}

export function epoch(instant: Date): number {
  return Math.floor(instant.getTime() / 1000);
}

export interface EventOptions {
  at?: Date;
  id?: string;
  previous?: Record<string, unknown>;
}

/** One event, as Stripe sends it. */
export function stripeEvent(type: string, object: object, { at = START, id, previous }: EventOptions = {}) {
  return {
    id: id ?? stripeId('evt'),
    object: 'event',
    api_version: '2025-09-30.clover',
    created: epoch(at),
    livemode: false,
    type,
    data: { object, ...(previous && { previous_attributes: previous }) },
  };
}

/** One buyer at Stripe: a customer, a subscription, its first invoice and payment, and their events. */
export function buyer(userId: string | null = null) {
  const customer = stripeId('cus');
  const subscription = stripeId('sub');
  const firstInvoice = stripeId('in');
  const payment = stripeId('pi');
  const charge = stripeId('ch');

  function subscriptionObject(fields: Record<string, unknown> = {}) {
    return {
      id: subscription,
      object: 'subscription',
      customer,
      status: 'active',
      created: epoch(START),
      collection_method: 'charge_automatically',
      cancel_at: null,
      cancel_at_period_end: false,
      discounts: [],
      ended_at: null,
      trial_end: null,
      items: {
        object: 'list',
        data: [
          {
            id: `si_${subscription}`,
            price: { id: 'price_m', unit_amount: 900, recurring: { interval: 'month' } },
            current_period_end: epoch(START) + 31 * 86_400,
            discounts: [],
          },
        ],
      },
      ...fields,
    };
  }

  return {
    customer,
    subscription,
    firstInvoice,
    /** The payment intent of the first invoice. */
    payment,
    charge,
    subscriptionObject,
    created: (fields: Record<string, unknown> = {}, options: EventOptions = {}) =>
      stripeEvent('customer.subscription.created', subscriptionObject(fields), options),
    updated: (fields: Record<string, unknown> = {}, options: EventOptions = {}) =>
      stripeEvent('customer.subscription.updated', subscriptionObject(fields), options),
    ended: (at: Date, fields: Record<string, unknown> = {}) =>
      stripeEvent(
        'customer.subscription.deleted',
        subscriptionObject({ status: 'canceled', ended_at: epoch(at), ...fields }),
        { at },
      ),
    invoicePaid: (fields: Record<string, unknown> = {}, options: EventOptions = {}) =>
      stripeEvent(
        'invoice.paid',
        {
          id: firstInvoice,
          object: 'invoice',
          customer,
          billing_reason: 'subscription_create',
          amount_paid: 900,
          status_transitions: { paid_at: epoch(options.at ?? START) },
          parent: { type: 'subscription_details', subscription_details: { subscription } },
          ...fields,
        },
        options,
      ),
    checkoutCompleted: (fields: Record<string, unknown> = {}, options: EventOptions = {}) =>
      stripeEvent(
        'checkout.session.completed',
        {
          id: stripeId('cs'),
          object: 'checkout.session',
          mode: 'subscription',
          customer,
          subscription,
          client_reference_id: userId,
          payment_status: 'paid',
          metadata: {},
          ...fields,
        },
        options,
      ),
    /** Ties the first invoice to its payment. */
    invoicePaymentPaid: (fields: Record<string, unknown> = {}, options: EventOptions = {}) =>
      stripeEvent(
        'invoice_payment.paid',
        {
          id: stripeId('inpay'),
          object: 'invoice_payment',
          invoice: firstInvoice,
          amount_paid: 900,
          status: 'paid',
          payment: { type: 'payment_intent', payment_intent: payment },
          ...fields,
        },
        options,
      ),
    /** A full refund of the first payment, unless the fields say otherwise. */
    chargeRefunded: (fields: Record<string, unknown> = {}, options: EventOptions = {}) =>
      stripeEvent(
        'charge.refunded',
        {
          id: charge,
          object: 'charge',
          customer,
          payment_intent: payment,
          amount: 900,
          amount_refunded: 900,
          refunded: true,
          ...fields,
        },
        options,
      ),
    refundFailed: (fields: Record<string, unknown> = {}, options: EventOptions = {}) =>
      stripeEvent(
        'refund.failed',
        {
          id: stripeId('re'),
          object: 'refund',
          charge,
          payment_intent: payment,
          amount: 900,
          status: 'failed',
          ...fields,
        },
        options,
      ),
    /** A dispute of the first payment, unless the fields say otherwise, and its events. */
    dispute: (openedAt: Date, fields: Record<string, unknown> = {}) => {
      const id = stripeId('du');
      const told = (what: string, status: string, at: Date) =>
        stripeEvent(
          `charge.dispute.${what}`,
          {
            id,
            object: 'dispute',
            charge,
            payment_intent: payment,
            amount: 900,
            created: epoch(openedAt),
            status,
            ...fields,
          },
          { at },
        );
      return {
        opened: () => told('created', 'needs_response', openedAt),
        updated: (status: string, at: Date) => told('updated', status, at),
        lost: (at: Date) => told('closed', 'lost', at),
        won: (at: Date) => told('closed', 'won', at),
        /** A bank can return money that it had decided to take. */
        wonAfterAll: (at: Date) => told('updated', 'won', at),
      };
    },
    customerDeleted: (options: EventOptions = {}) =>
      stripeEvent('customer.deleted', { id: customer, object: 'customer' }, options),
  };
}

export type Buyer = ReturnType<typeof buyer>;
