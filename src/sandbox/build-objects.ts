import type { Stripe } from 'stripe';

import { newId } from './ids.ts';
import { DAY, periodEnd } from './time.ts';
import type { Interval } from './time.ts';
import type {
  BillingReason,
  Customer,
  Discount,
  Order,
  PartOf,
  Subscription,
  Unexpanded,
  UnusedTime,
} from './types.ts';

// Builders of objects in their initial state. In each, `changing` widens the types of fields whose initial value would
// otherwise give them a type too narrow for later values.

/** When all prices were created: 1 January 2025, epoch seconds. */
const PRICES_CREATED = 1_735_689_600;

/** Seconds; a day is Stripe's default. */
const CHECKOUT_LIFETIME = DAY;

/**
 * Builds a recurring price: https://docs.stripe.com/api/prices/object
 *
 * @param amount US cents
 */
export function buildPrice(
  id: string,
  nickname: string,
  interval: Interval,
  amount: number,
  product = 'prod_sandbox',
) {
  return {
    id,
    object: 'price',
    active: true,
    billing_scheme: 'per_unit',
    created: PRICES_CREATED,
    currency: 'usd',
    livemode: false,
    lookup_key: null,
    metadata: {},
    nickname,
    product,
    recurring: { interval, interval_count: 1, meter: null, trial_period_days: null, usage_type: 'licensed' },
    tax_behavior: 'unspecified',
    type: 'recurring',
    unit_amount: amount,
  } satisfies PartOf<Stripe.Price>;
}

/** https://docs.stripe.com/api/customers/object */
export function buildCustomer(
  at: number,
  given: {
    email: string | null;
    name: string | null;
    metadata: Stripe.Metadata;
    test_clock: string | null;
  },
) {
  const changing: {
    balance: number;
    currency: string | null;
    invoice_settings: { default_payment_method: string | null };
    next_invoice_sequence: number;
  } = {
    balance: 0,
    currency: null,
    invoice_settings: { default_payment_method: null },
    next_invoice_sequence: 1,
  };
  return {
    id: newId('cus'),
    object: 'customer',
    created: at,
    default_source: null,
    delinquent: false,
    description: null,
    invoice_prefix: newId('in').slice(3, 11).toUpperCase(),
    livemode: false,
    phone: null,
    shipping: null,
    ...given,
    ...changing,
  } satisfies PartOf<Stripe.Customer>;
}

/** https://docs.stripe.com/api/customer_balance_transactions/object */
export function buildBalanceTransaction(
  at: number,
  given: Pick<Stripe.CustomerBalanceTransaction, 'amount' | 'currency' | 'ending_balance'> & {
    customer: string;
    metadata: Stripe.Metadata;
  },
) {
  return {
    id: newId('cbtxn'),
    object: 'customer_balance_transaction',
    created: at,
    credit_note: null,
    description: null,
    invoice: null,
    livemode: false,
    type: 'adjustment',
    ...given,
  } satisfies PartOf<Stripe.CustomerBalanceTransaction>;
}

/** Builds an open checkout that expires after a day: https://docs.stripe.com/api/checkout/sessions/object */
export function buildCheckout(
  at: number,
  baseUrl: string,
  order: Order,
  given: {
    customer: string | null;
    customer_email: string | null;
    client_reference_id: string | null;
    metadata: Stripe.Metadata;
    success_url: string;
    cancel_url: string | null;
    /** Shown above the button. */
    message: string | null;
  },
) {
  const { message, ...shown } = given;
  const id = newId('cs_test');
  const amount = order.trialDays > 0 ? 0 : order.price.unit_amount;
  const changing: Unexpanded<
    Pick<
      Stripe.Checkout.Session,
      'discounts' | 'invoice' | 'payment_status' | 'status' | 'subscription' | 'url'
    >
  > = {
    discounts: [],
    invoice: null,
    payment_status: 'unpaid',
    status: 'open',
    subscription: null,
    url: `${baseUrl}/checkout/${id}`,
  };
  return {
    id,
    object: 'checkout.session',
    amount_subtotal: amount,
    amount_total: amount,
    created: at,
    currency: order.price.currency,
    expires_at: at + CHECKOUT_LIFETIME,
    livemode: false,
    mode: 'subscription',
    payment_intent: null,
    payment_method_collection: 'always',
    payment_method_types: ['card', 'us_bank_account'],
    setup_intent: null,
    total_details: { amount_discount: 0, amount_shipping: 0, amount_tax: 0 },
    ui_mode: 'hosted_page',
    custom_text: {
      after_submit: null,
      shipping_address: null,
      submit: message === null ? null : { message },
      terms_of_service_acceptance: null,
    },
    ...shown,
    ...changing,
  } satisfies PartOf<Stripe.Checkout.Session>;
}

/** Returns the discount in cents, rounded. */
export function discountOn(amount: number, percentOff: number): number {
  return Math.round((amount * percentOff) / 100);
}

/**
 * Builds a subscription that is `trialing` or `active` and has no invoice yet. A trial is its first period,
 * and billing is anchored at the trial's end. https://docs.stripe.com/api/subscriptions/object
 */
export function buildSubscription(at: number, customer: Customer, order: Order) {
  const id = newId('sub');
  const { price, trialDays } = order;
  const trialEnd = trialDays > 0 ? at + trialDays * DAY : null;
  const changing: Unexpanded<
    Pick<
      Stripe.Subscription,
      | 'cancel_at'
      | 'cancel_at_period_end'
      | 'canceled_at'
      | 'discounts'
      | 'ended_at'
      | 'latest_invoice'
      | 'status'
    >
  > & { cancellation_details: Unexpanded<Pick<Stripe.Subscription.CancellationDetails, 'reason'>> } = {
    cancel_at: null,
    cancel_at_period_end: false,
    canceled_at: null,
    cancellation_details: { reason: null },
    discounts: [],
    ended_at: null,
    latest_invoice: null,
    status: trialEnd === null ? 'active' : 'trialing',
  };
  return {
    id,
    object: 'subscription',
    billing_cycle_anchor: trialEnd ?? at,
    collection_method: 'charge_automatically',
    created: at,
    currency: price.currency,
    customer: customer.id,
    days_until_due: null,
    default_payment_method: null,
    description: null,
    items: {
      object: 'list',
      data: [
        {
          id: newId('si'),
          object: 'subscription_item',
          created: at,
          current_period_end: trialEnd ?? periodEnd(at, price.recurring.interval, at),
          current_period_start: at,
          discounts: [],
          metadata: {},
          price,
          quantity: 1,
          subscription: id,
          tax_rates: [],
        },
      ],
      has_more: false,
      url: `/v1/subscription_items?subscription=${id}`,
    },
    livemode: false,
    metadata: order.metadata,
    pause_collection: null,
    pending_setup_intent: null,
    schedule: null,
    start_date: at,
    test_clock: customer.test_clock,
    trial_end: trialEnd,
    trial_settings: { end_behavior: { missing_payment_method: 'create_invoice' } },
    trial_start: trialEnd === null ? null : at,
    ...changing,
  } satisfies PartOf<Stripe.Subscription>;
}

/**
 * Builds the draft invoice of a subscription's current period, without a number. A trial period is invoiced
 * too, for zero. https://docs.stripe.com/api/invoices/object
 */
export function buildInvoice(
  at: number,
  customer: Customer,
  subscription: Subscription,
  reason: BillingReason,
  { discount, unused }: { discount: Discount | null; unused: UnusedTime | null },
) {
  const id = newId('in');
  const trial = subscription.status === 'trialing';
  const credits = unused === null ? [] : [lineOf(unused.item, at, -unused.credit)];
  const lines = [
    ...credits,
    ...subscription.items.data.map((item) =>
      lineOf(item, item.current_period_start, trial ? 0 : item.price.unit_amount),
    ),
  ];
  function lineOf(item: UnusedTime['item'], start: number, amount: number) {
    const { price } = item;
    const proration = amount < 0;
    const description = proration
      ? `Unused time on ${price.nickname}`
      : `1 × ${price.nickname}${trial ? ' (trial period)' : ''}`;
    return {
      id: newId('il'),
      object: 'line_item',
      amount,
      currency: price.currency,
      description,
      discounts: [],
      invoice: id,
      livemode: false,
      metadata: subscription.metadata,
      parent: {
        type: 'subscription_item_details',
        subscription_item_details: {
          proration,
          subscription: subscription.id,
          subscription_item: item.id,
        },
      },
      period: { start, end: item.current_period_end },
      pricing: { type: 'price_details', price_details: { price: price.id, product: price.product } },
      quantity: 1,
      subtotal: amount,
    } satisfies PartOf<Stripe.InvoiceLineItem>;
  }
  const subtotal = lines.reduce((sum, line) => sum + line.amount, 0);
  const off = discountOn(subtotal, discount?.percentOff ?? 0);
  const total = subtotal - off;
  const owed = total + customer.balance;
  const due = Math.max(0, owed);
  const changing: Unexpanded<
    Pick<
      Stripe.Invoice,
      | 'attempted'
      | 'automatically_finalizes_at'
      | 'next_payment_attempt'
      | 'number'
      | 'status'
      | 'status_transitions'
    >
  > & { auto_advance: boolean } = {
    attempted: false,
    auto_advance: true,
    automatically_finalizes_at: null,
    next_payment_attempt: null,
    number: null,
    status: 'draft',
    status_transitions: {
      finalized_at: null,
      marked_uncollectible_at: null,
      paid_at: null,
      voided_at: null,
    },
  };
  return {
    id,
    object: 'invoice',
    amount_due: due,
    amount_paid: 0,
    amount_remaining: due,
    attempt_count: 0,
    billing_reason: reason,
    collection_method: 'charge_automatically',
    created: at,
    currency: subscription.currency,
    customer: customer.id,
    customer_email: customer.email,
    discounts: discount === null ? [] : [discount.id],
    ending_balance: Math.min(0, owed),
    lines: { object: 'list', data: lines, has_more: false, url: `/v1/invoices/${id}/lines` },
    livemode: false,
    metadata: {},
    parent: {
      type: 'subscription_details',
      quote_details: null,
      subscription_details: { subscription: subscription.id, metadata: subscription.metadata },
    },
    period_end: at,
    period_start: at,
    starting_balance: customer.balance,
    subtotal,
    test_clock: subscription.test_clock,
    total,
    total_discount_amounts: discount === null ? [] : [{ amount: off, discount: discount.id }],
    ...changing,
  } satisfies PartOf<Stripe.Invoice>;
}

/** https://docs.stripe.com/api/customer_portal/sessions/object */
export function buildPortal(at: number, baseUrl: string, customer: string, returnUrl: string | null) {
  const id = newId('bps');
  return {
    id,
    object: 'billing_portal.session',
    configuration: 'bpc_sandbox',
    created: at,
    customer,
    flow: null,
    livemode: false,
    locale: null,
    on_behalf_of: null,
    return_url: returnUrl,
    url: `${baseUrl}/portal/${id}`,
  } satisfies PartOf<Stripe.BillingPortal.Session>;
}
