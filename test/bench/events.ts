import { Stripe } from 'stripe';

import { DAY_SECONDS } from '../../src/instants.ts';
import { WEBHOOK_SECRET } from './shared.ts';

/** A webhook that is ready to be sent. */
export interface Webhook {
  payload: string;
  signature: string;
}

/** The subscription of buyer number n becomes active: the referral converts. */
export function conversion(n: number, at: number): string {
  return event(`evt_conversion_${n}`, 'customer.subscription.created', at, subscription(n, at, 1));
}

/** A month later: the same subscription, with its next period. */
export function renewal(n: number, at: number): string {
  return event(`evt_renewal_${n}`, 'customer.subscription.updated', at + 1, subscription(n, at, 2));
}

/** Signs as Stripe does. A signature is good for 300 s: sign shortly before sending. */
export function signed(payload: string): Webhook {
  return {
    payload,
    signature: Stripe.webhooks.generateTestHeaderString({ payload, secret: WEBHOOK_SECRET }),
  };
}

function event(id: string, type: string, created: number, object: object): string {
  return JSON.stringify({
    id,
    object: 'event',
    api_version: '2025-09-30.clover',
    created,
    livemode: false,
    pending_webhooks: 1,
    request: { id: null, idempotency_key: null },
    type,
    data: { object },
  });
}

function subscription(n: number, at: number, period: number): object {
  return {
    id: `sub_${n}`,
    object: 'subscription',
    billing_cycle_anchor: at,
    cancel_at: null,
    cancel_at_period_end: false,
    collection_method: 'charge_automatically',
    created: at,
    currency: 'eur',
    customer: `cus_${n}`,
    default_payment_method: `pm_${n}`,
    discounts: [],
    ended_at: null,
    items: {
      object: 'list',
      data: [
        {
          id: `si_${n}`,
          object: 'subscription_item',
          current_period_end: at + period * 30 * DAY_SECONDS,
          current_period_start: at + (period - 1) * 30 * DAY_SECONDS,
          price: { id: 'price_monthly', object: 'price', currency: 'eur', unit_amount: 900 },
          quantity: 1,
        },
      ],
    },
    latest_invoice: `in_${n}_${period}`,
    metadata: {},
    status: 'active',
    trial_end: null,
  };
}
