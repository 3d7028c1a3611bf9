import type { Stripe } from 'stripe';

import type {
  buildBalanceTransaction,
  buildCheckout,
  buildCustomer,
  buildInvoice,
  buildPortal,
  buildPrice,
  buildSubscription,
} from './build-objects.ts';
import type {
  buildCharge,
  buildDispute,
  buildInvoicePayment,
  buildPaymentIntent,
  buildRefund,
} from './payment-objects.ts';

// The sandbox's Stripe objects, in the shapes of API version 2025-03-31.basil and later: periods are on
// subscription items, and an invoice names its subscription under `parent`. Times are epoch seconds, amounts
// are cents. https://docs.stripe.com/changelog/basil
//
// An object has only the fields that its builder fills in, which is a part of what Stripe sends. The builder
// checks each field against the types of the `stripe` package.

export type Price = ReturnType<typeof buildPrice>;
export type Customer = ReturnType<typeof buildCustomer>;
export type CheckoutSession = ReturnType<typeof buildCheckout>;
export type Subscription = ReturnType<typeof buildSubscription>;
export type Invoice = ReturnType<typeof buildInvoice>;
export type InvoicePayment = ReturnType<typeof buildInvoicePayment>;
export type PaymentIntent = ReturnType<typeof buildPaymentIntent>;
export type Charge = ReturnType<typeof buildCharge>;
export type Refund = ReturnType<typeof buildRefund>;
export type Dispute = ReturnType<typeof buildDispute>;
export type BalanceTransaction = ReturnType<typeof buildBalanceTransaction>;
export type PortalSession = ReturnType<typeof buildPortal>;
export type DeletedCustomer = Stripe.DeletedCustomer;

/** One of Stripe's types as the API sends it when nothing is expanded, with ids in place of whole objects. */
export type Unexpanded<T> = string extends T
  ? Exclude<T, object>
  : T extends readonly (infer E)[]
    ? Unexpanded<E>[]
    : T extends object
      ? { [K in keyof T]: Unexpanded<T[K]> }
      : T;

/** Any part of one of Stripe's types, unexpanded. */
export type PartOf<T> = string extends T
  ? Exclude<T, object>
  : T extends readonly (infer E)[]
    ? PartOf<E>[]
    : T extends object
      ? { [K in keyof T]?: PartOf<T[K]> }
      : T;

/** What a checkout sells. Stripe does not show this in the session object. */
export interface Order {
  price: Price;
  /** Whole days; 0 for no trial. */
  trialDays: number;
  /** For the subscription, not the session. */
  metadata: Stripe.Metadata;
  /** Discount on the first payment, in percent; 0 for none. */
  percentOff: number;
  /**
   * The subscription that waits for its first payment. Paying it completes the session. Null when there is
   * none.
   */
  incompleteSubscription: string | null;
}

/** Discount on a subscription's next payment. Stripe's own discount names a coupon instead. */
export interface Discount {
  id: string;
  percentOff: number;
}

/** Paid time that a switch of plans leaves unused, taken off the invoice of the switch. */
export interface UnusedTime {
  /** Cents. */
  credit: number;
  /** As it was before the switch. */
  item: Subscription['items']['data'][number];
}

export type BillingReason = 'subscription_create' | 'subscription_cycle' | 'subscription_update';

/** Stripe's own type is a union over all event types, each with its whole object. This one is simpler. */
export interface StripeEvent {
  id: string;
  object: 'event';
  api_version: string;
  created: number;
  data: { object: object; previous_attributes?: Record<string, unknown> };
  livemode: false;
  pending_webhooks: number;
  request: { id: string | null; idempotency_key: string | null };
  type: string;
}

/** An email that the server would have sent. This is not a Stripe object. */
export interface Mail {
  id: string;
  /** ISO 8601, UTC. */
  at: string;
  messageId: string;
  from: string;
  to: string;
  replyTo: string | null;
  subject: string;
  text: string;
  html: string;
  /** The URL in `List-Unsubscribe`; null when the email has none. */
  unsubscribe: string | null;
}
