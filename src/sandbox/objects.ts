import { newId } from './ids.ts';
import { DAY, addMonths, periodEnd } from './time.ts';
import type { Interval } from './time.ts';
import type {
  BillingReason,
  CheckoutSession,
  Coupon,
  Customer,
  Discount,
  Invoice,
  Order,
  PortalSession,
  Price,
  Subscription,
} from './types.ts';

/** When all prices were created: 1 January 2025, epoch seconds. */
const PRICES_CREATED = 1_735_689_600;

/** Stripe's default: a day. */
const CHECKOUT_LIFETIME = DAY;

/**
 * A recurring price: https://docs.stripe.com/api/prices/object
 *
 * @param amount US cents
 */
export function buildPrice(
  id: string,
  nickname: string,
  interval: Interval,
  amount: number,
  product = 'prod_sandbox',
): Price {
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

/** A customer: https://docs.stripe.com/api/customers/object */
export function buildCustomer(
  at: number,
  given: Pick<Customer, 'email' | 'name' | 'description' | 'metadata' | 'test_clock'>,
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
    test_clock: given.test_clock,
  };
}

/** An open checkout that expires after a day: https://docs.stripe.com/api/checkout/sessions/object */
export function buildCheckout(
  at: number,
  baseUrl: string,
  order: Order,
  coupon: Coupon | null,
  given: Pick<
    CheckoutSession,
    | 'customer'
    | 'customer_email'
    | 'client_reference_id'
    | 'metadata'
    | 'success_url'
    | 'cancel_url'
    | 'payment_method_collection'
  >,
): CheckoutSession {
  const id = newId('cs_test');
  const amount = order.trialDays > 0 ? 0 : order.price.unit_amount * order.quantity;
  return {
    id,
    object: 'checkout.session',
    amount_subtotal: amount,
    amount_total: amount - discountOn(amount, coupon),
    cancel_url: given.cancel_url,
    client_reference_id: given.client_reference_id,
    created: at,
    currency: order.price.currency,
    customer: given.customer,
    customer_email: given.customer_email,
    discounts: coupon === null ? [] : [{ coupon: coupon.id, promotion_code: null }],
    expires_at: at + CHECKOUT_LIFETIME,
    invoice: null,
    livemode: false,
    metadata: given.metadata,
    mode: 'subscription',
    payment_intent: null,
    payment_method_collection: given.payment_method_collection,
    payment_method_types: ['card', 'us_bank_account'],
    payment_status: 'unpaid',
    setup_intent: null,
    status: 'open',
    subscription: null,
    success_url: given.success_url,
    total_details: { amount_discount: discountOn(amount, coupon), amount_shipping: 0, amount_tax: 0 },
    ui_mode: 'hosted',
    url: `${baseUrl}/checkout/${id}`,
  };
}

/** The cents that a coupon takes off, rounded. */
export function discountOn(amount: number, coupon: Coupon | null): number {
  return coupon === null ? 0 : Math.round((amount * coupon.percent_off) / 100);
}

/** A coupon: https://docs.stripe.com/api/coupons/object */
export function buildCoupon(
  at: number,
  given: Pick<Coupon, 'percent_off' | 'duration' | 'duration_in_months' | 'name' | 'metadata'> & {
    id?: string | undefined;
  },
): Coupon {
  return {
    id: given.id ?? newId('co').slice(3, 11),
    object: 'coupon',
    amount_off: null,
    created: at,
    currency: null,
    duration: given.duration,
    duration_in_months: given.duration_in_months,
    livemode: false,
    max_redemptions: null,
    metadata: given.metadata,
    name: given.name,
    percent_off: given.percent_off,
    redeem_by: null,
    times_redeemed: 0,
    valid: true,
  };
}

/** A coupon applied to a subscription: https://docs.stripe.com/api/discounts/object */
export function buildDiscount(
  at: number,
  coupon: Coupon,
  subscription: Subscription,
  session: CheckoutSession,
): Discount {
  return {
    id: newId('di'),
    object: 'discount',
    checkout_session: session.id,
    customer: subscription.customer,
    customer_account: null,
    end: coupon.duration === 'repeating' ? addMonths(at, coupon.duration_in_months ?? 0) : null,
    invoice: null,
    invoice_item: null,
    promotion_code: session.discounts[0]?.promotion_code ?? null,
    source: { type: 'coupon', coupon: coupon.id },
    start: at,
    subscription: subscription.id,
    subscription_item: null,
  };
}

/**
 * A subscription that is `trialing` or `active`, without an invoice yet:
 * https://docs.stripe.com/api/subscriptions/object. A trial is its first period; billing is anchored at the trial's
 * end.
 */
export function buildSubscription(at: number, customer: Customer, order: Order): Subscription {
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
    customer: customer.id,
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
    test_clock: customer.test_clock,
    trial_end: trialEnd,
    trial_settings: { end_behavior: { missing_payment_method: order.missingPaymentMethod } },
    trial_start: trialEnd === null ? null : at,
  };
}

/**
 * The draft of a subscription's current period, without a number yet: https://docs.stripe.com/api/invoices/object. A
 * trial period is invoiced too, for zero.
 */
export function buildInvoice(
  at: number,
  customer: Customer,
  subscription: Subscription,
  reason: BillingReason,
  discount: { id: string; coupon: Coupon } | null,
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
  const subtotal = lines.reduce((sum, line) => sum + line.amount, 0);
  const off = discountOn(subtotal, discount?.coupon ?? null);
  const total = subtotal - off;
  return {
    id,
    object: 'invoice',
    amount_due: total,
    amount_paid: 0,
    amount_remaining: total,
    attempt_count: 0,
    attempted: false,
    auto_advance: true,
    automatically_finalizes_at: null,
    billing_reason: reason,
    collection_method: 'charge_automatically',
    created: at,
    currency: subscription.currency,
    customer: customer.id,
    customer_email: customer.email,
    discounts: discount === null ? [] : [discount.id],
    ending_balance: 0,
    lines: { object: 'list', data: lines, has_more: false, url: `/v1/invoices/${id}/lines` },
    livemode: false,
    metadata: {},
    next_payment_attempt: null,
    number: null,
    parent: {
      type: 'subscription_details',
      quote_details: null,
      subscription_details: { subscription: subscription.id, metadata: subscription.metadata },
    },
    period_end: at,
    period_start: at,
    starting_balance: 0,
    status: 'draft',
    status_transitions: {
      finalized_at: null,
      marked_uncollectible_at: null,
      paid_at: null,
      voided_at: null,
    },
    subtotal,
    test_clock: subscription.test_clock,
    total,
    total_discount_amounts: discount === null ? [] : [{ amount: off, discount: discount.id }],
  };
}

/** A portal session: https://docs.stripe.com/api/customer_portal/sessions/object */
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
