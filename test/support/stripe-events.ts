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

/** One buyer at Stripe: a customer, a subscription and its first invoice, and the events that tell of them. */
export function buyer(userId: string | null = null) {
  const customer = stripeId('cus');
  const subscription = stripeId('sub');
  const firstInvoice = stripeId('in');

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
    customerDeleted: (options: EventOptions = {}) =>
      stripeEvent('customer.deleted', { id: customer, object: 'customer' }, options),
  };
}
