import { newId } from './ids.ts';
import { DAY, periodEnd } from './time.ts';
import type { Interval } from './time.ts';
import type {
  BillingReason,
  CheckoutSession,
  Customer,
  Invoice,
  Metadata,
  Order,
  PortalSession,
  Price,
  Subscription,
} from './types.ts';

/** Prices exist "since always": epoch seconds of 1 January 2025. */
const PRICES_CREATED = 1_735_689_600;

/** An open checkout expires after a day, Stripe's default. */
const CHECKOUT_LIFETIME = DAY;

/**
 * Builds a price that recurs: https://docs.stripe.com/api/prices/object
 *
 * @param id the price's id
 * @param nickname what people call it
 * @param interval how often it is charged
 * @param amount cents of US dollars
 * @returns the price
 */
export function buildPrice(id: string, nickname: string, interval: Interval, amount: number): Price {
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
    product: 'prod_sandbox',
    recurring: {
      interval,
      interval_count: 1,
      meter: null,
      trial_period_days: null,
      usage_type: 'licensed',
    },
    tax_behavior: 'unspecified',
    type: 'recurring',
    unit_amount: amount,
    unit_amount_decimal: String(amount),
  };
}

/**
 * Builds a customer: https://docs.stripe.com/api/customers/object
 *
 * @param at epoch seconds
 * @param given what the caller told about them
 * @returns a customer with an id and an invoice prefix of its own
 */
export function buildCustomer(
  at: number,
  given: { email: string | null; name: string | null; description: string | null; metadata: Metadata },
): Customer {
  return {
    id: newId('cus'),
    object: 'customer',
    balance: 0,
    created: at,
    currency: null,
    default_source: null,
    delinquent: false,
    description: given.description,
    email: given.email,
    invoice_prefix: newId('in').slice(3, 11).toUpperCase(),
    livemode: false,
    metadata: given.metadata,
    name: given.name,
    next_invoice_sequence: 1,
    phone: null,
    shipping: null,
  };
}

/**
 * Builds an open checkout: https://docs.stripe.com/api/checkout/sessions/object
 *
 * @param at epoch seconds
 * @param baseUrl where the sandbox's pages are
 * @param order what is bought
 * @param given the rest of what the caller asked for
 * @returns a session that expires a day later; with a trial it costs nothing today
 */
export function buildCheckout(
  at: number,
  baseUrl: string,
  order: Order,
  given: Pick<
    CheckoutSession,
    'customer' | 'customer_email' | 'client_reference_id' | 'metadata' | 'success_url' | 'cancel_url'
  >,
): CheckoutSession {
  const id = newId('cs_test');
  const amount = order.trialDays > 0 ? 0 : order.price.unit_amount * order.quantity;
  return {
    id,
    object: 'checkout.session',
    amount_subtotal: amount,
    amount_total: amount,
    cancel_url: given.cancel_url,
    client_reference_id: given.client_reference_id,
    created: at,
    currency: order.price.currency,
    customer: given.customer,
    customer_email: given.customer_email,
    expires_at: at + CHECKOUT_LIFETIME,
    invoice: null,
    livemode: false,
    metadata: given.metadata,
    mode: 'subscription',
    payment_intent: null,
    payment_method_types: ['card'],
    payment_status: 'unpaid',
    setup_intent: null,
    status: 'open',
    subscription: null,
    success_url: given.success_url,
    ui_mode: 'hosted',
    url: `${baseUrl}/checkout/${id}`,
  };
}

/**
 * Builds a running subscription: https://docs.stripe.com/api/subscriptions/object
 *
 * @param at epoch seconds of its start
 * @param customer whose it is
 * @param order what was bought; a trial is its first period, and billing is anchored at the trial's end
 * @returns a subscription that is `trialing` or `active`, without an invoice as yet
 */
export function buildSubscription(at: number, customer: string, order: Order): Subscription {
  const id = newId('sub');
  const { price, quantity, trialDays } = order;
  const trialEnd = trialDays > 0 ? at + trialDays * DAY : null;
  return {
    id,
    object: 'subscription',
    billing_cycle_anchor: trialEnd ?? at,
    cancel_at: null,
    cancel_at_period_end: false,
    canceled_at: null,
    cancellation_details: { comment: null, feedback: null, reason: null },
    collection_method: 'charge_automatically',
    created: at,
    currency: price.currency,
    customer,
    days_until_due: null,
    default_payment_method: null,
    description: null,
    discounts: [],
    ended_at: null,
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
          quantity,
          subscription: id,
          tax_rates: [],
        },
      ],
      has_more: false,
      url: `/v1/subscription_items?subscription=${id}`,
    },
    latest_invoice: null,
    livemode: false,
    metadata: order.metadata,
    pause_collection: null,
    pending_setup_intent: null,
    schedule: null,
    start_date: at,
    status: trialEnd === null ? 'active' : 'trialing',
    test_clock: null,
    trial_end: trialEnd,
    trial_start: trialEnd === null ? null : at,
  };
}

/**
 * Builds the paid invoice of a subscription's current period: https://docs.stripe.com/api/invoices/object
 * A period on trial is invoiced too, for nothing.
 *
 * @param at epoch seconds at which it was made and paid
 * @param customer who pays; takes the next number of their sequence
 * @param subscription what is paid for
 * @param reason `subscription_create` for the first, `subscription_cycle` for a renewal
 * @returns the invoice
 */
export function buildInvoice(
  at: number,
  customer: Customer,
  subscription: Subscription,
  reason: BillingReason,
): Invoice {
  const id = newId('in');
  const trial = subscription.status === 'trialing';
  const lines: Invoice['lines']['data'] = subscription.items.data.map((item) => {
    const amount = trial ? 0 : item.price.unit_amount * item.quantity;
    return {
      id: newId('il'),
      object: 'line_item',
      amount,
      currency: item.price.currency,
      description: `${item.quantity} × ${item.price.nickname}${trial ? ' (trial period)' : ''}`,
      discounts: [],
      invoice: id,
      livemode: false,
      metadata: subscription.metadata,
      parent: {
        type: 'subscription_item_details',
        subscription_item_details: {
          proration: false,
          subscription: subscription.id,
          subscription_item: item.id,
        },
      },
      period: { start: item.current_period_start, end: item.current_period_end },
      pricing: {
        type: 'price_details',
        price_details: { price: item.price.id, product: item.price.product },
        unit_amount_decimal: trial ? '0' : item.price.unit_amount_decimal,
      },
      quantity: item.quantity,
      subtotal: amount,
    };
  });
  const total = lines.reduce((sum, line) => sum + line.amount, 0);
  return {
    id,
    object: 'invoice',
    amount_due: total,
    amount_paid: total,
    amount_remaining: 0,
    // Nothing is charged for an invoice of zero, so nothing was attempted either; Stripe still calls it paid.
    attempt_count: total > 0 ? 1 : 0,
    attempted: true,
    billing_reason: reason,
    collection_method: 'charge_automatically',
    created: at,
    currency: subscription.currency,
    customer: customer.id,
    customer_email: customer.email,
    discounts: [],
    ending_balance: 0,
    lines: { object: 'list', data: lines, has_more: false, url: `/v1/invoices/${id}/lines` },
    livemode: false,
    metadata: {},
    number: `${customer.invoice_prefix}-${String(customer.next_invoice_sequence).padStart(4, '0')}`,
    parent: {
      type: 'subscription_details',
      quote_details: null,
      subscription_details: { subscription: subscription.id, metadata: subscription.metadata },
    },
    period_end: at,
    period_start: at,
    starting_balance: 0,
    status: 'paid',
    status_transitions: { finalized_at: at, marked_uncollectible_at: null, paid_at: at, voided_at: null },
    subtotal: total,
    total,
  };
}

/**
 * Builds a portal session: https://docs.stripe.com/api/customer_portal/sessions/object
 *
 * @param at epoch seconds
 * @param baseUrl where the sandbox's pages are
 * @param customer whose subscriptions the page shows
 * @param returnUrl where its "Return" leads, if anywhere
 * @returns the session
 */
export function buildPortal(
  at: number,
  baseUrl: string,
  customer: string,
  returnUrl: string | null,
): PortalSession {
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
  };
}
