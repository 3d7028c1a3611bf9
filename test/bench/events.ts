import { createHmac } from 'node:crypto';

import { DAY_SECONDS } from '../../src/instants.ts';
import { shotOf } from './load.ts';
import type { Shot } from './load.ts';
import { stripeIdOf, WEBHOOK_SECRET } from './shared.ts';

/** A subscription becomes active, and the referral converts. */
export function conversion(name: string, at: number): string {
  return event(stripeIdOf('evt', name), 'customer.subscription.created', at, subscription(name, at, 0));
}

/**
 * A renewal that many months later: the same subscription with its next period. In Stripe's timestamps a month is one
 * second here.
 */
export function renewal(name: string, at: number, month: number): string {
  const id = stripeIdOf('evt', `month ${month} of ${name}`);
  return event(id, 'customer.subscription.updated', at + month, subscription(name, at, month));
}

/**
 * A webhook, signed as by Stripe (https://docs.stripe.com/webhooks#verify-manually). Signatures expire after 300 s, so
 * make it shortly before sending.
 */
export function webhook(payload: string, status: 'ok' | 'duplicate'): Shot {
  const time = Math.floor(Date.now() / 1000);
  const signature = createHmac('sha256', WEBHOOK_SECRET).update(`${time}.${payload}`).digest('hex');
  const headers = {
    'content-type': 'application/json; charset=utf-8',
    'stripe-signature': `t=${time},v1=${signature}`,
  };
  return shotOf('POST /api/stripe/webhook', headers, payload, `"status":"${status}"`);
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

function subscription(name: string, at: number, month: number): object {
  const idOf = (prefix: string): string => stripeIdOf(prefix, name);
  return {
    id: idOf('sub'),
    object: 'subscription',
    billing_cycle_anchor: at,
    cancel_at: null,
    cancel_at_period_end: false,
    collection_method: 'charge_automatically',
    created: at,
    currency: 'eur',
    customer: idOf('cus'),
    default_payment_method: idOf('pm'),
    discounts: [],
    ended_at: null,
    items: {
      object: 'list',
      data: [
        {
          id: idOf('si'),
          object: 'subscription_item',
          current_period_end: at + (month + 1) * 30 * DAY_SECONDS,
          current_period_start: at + month * 30 * DAY_SECONDS,
          price: {
            id: 'price_monthly',
            object: 'price',
            currency: 'eur',
            unit_amount: 900,
          },
          quantity: 1,
        },
      ],
    },
    latest_invoice: stripeIdOf('in', `month ${month} of ${name}`),
    metadata: {},
    status: 'active',
    trial_end: null,
  };
}
