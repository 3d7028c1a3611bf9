import { daysAfter } from './server.ts';
import { epoch, stripeEvent } from './stripe-events.ts';
import type { Buyer } from './stripe-events.ts';

type StripeEvent = ReturnType<typeof stripeEvent>;

/** The personal texts in the events of `everyType`; each event has at least one. */
export const SECRETS = [
  'ann.secret@example.com',
  'Ann Secret',
  '1 Secret Street',
  // With its quotes: an id may contain these digits.
  '"4242"',
  '+1555',
  'a secret note',
  'acme-secret',
];

/** What Stripe sends that we must not keep. */
export const PERSONAL = {
  name: 'Ann Secret',
  email: 'ann.secret@example.com',
  receipt_email: 'ann.secret@example.com',
  customer_email: 'ann.secret@example.com',
  customer_name: 'Ann Secret',
  customer_address: { line1: '1 Secret Street' },
  customer_details: { email: 'ann.secret@example.com', name: 'Ann Secret', phone: '+1555' },
  billing_details: { name: 'Ann Secret', address: { line1: '1 Secret Street' } },
  shipping: { name: 'Ann Secret', phone: '+1555' },
  payment_method_details: { type: 'card', card: { last4: '4242', exp_year: 2030 } },
  default_payment_method: { id: 'pm_1', card: { last4: '4242' }, billing_details: { name: 'Ann Secret' } },
  evidence: { customer_name: 'Ann Secret', billing_address: '1 Secret Street' },
  description: 'a secret note',
};

const METADATA = { note: 'a secret note', project: 'acme-secret' };
const at = (day: number) => ({ at: daysAfter(day) });

/** At least one whole event of each handled type, with personal data, as Stripe sends it. Nearly all change something. */
export function everyType(stripe: Buyer, userId: string): StripeEvent[] {
  const person = { id: stripe.customer, object: 'customer', ...PERSONAL };
  const private_ = { ...PERSONAL, metadata: METADATA };
  const dispute = stripe.dispute(daysAfter(3), {
    ...private_,
    payment_intent: { id: stripe.payment, ...PERSONAL },
  });
  const first = (type: string, day: number) => ({
    ...stripe.invoicePaid({ ...private_, customer: person, amount_paid: 0 }, at(day)),
    type,
  });
  const checkout = (type: string, day: number) => ({
    ...stripe.checkoutCompleted(
      { ...private_, payment_status: 'unpaid', metadata: { ...METADATA, userId }, customer: person },
      at(day),
    ),
    type,
  });
  const changed = (type: string, fields: object, day: number, previous?: Record<string, unknown>) => ({
    ...stripe.updated({ ...private_, ...fields }, { ...at(day), ...(previous && { previous }) }),
    type: `customer.subscription.${type}`,
  });
  const notMade = (type: string, status: string, day: number) => {
    const refund = stripe.refundFailed({ ...private_, status }).data.object;
    return stripeEvent(type, refund, { ...at(day), previous: { status: 'pending', ...PERSONAL } });
  };
  return [
    stripeEvent('customer.updated', person, {
      previous: { email: 'ann.secret@example.com', name: 'Ann Secret' },
    }),
    changed('created', { status: 'incomplete', customer: person }, 0),
    first('invoice.payment_action_required', 0.1),
    first('invoice.payment_failed', 0.2),
    checkout('checkout.session.completed', 0.3),
    checkout('checkout.session.async_payment_failed', 0.4),
    checkout('checkout.session.async_payment_succeeded', 0.5),
    changed('updated', {}, 1, { status: 'incomplete', metadata: METADATA, ...PERSONAL }),
    stripe.invoicePaid({ ...private_, customer: person }, at(1)),
    stripe.invoicePaymentPaid(
      { ...private_, payment: { payment_intent: { id: stripe.payment, ...PERSONAL } } },
      at(1),
    ),
    dispute.opened(),
    dispute.updated('under_review', daysAfter(4)),
    dispute.lost(daysAfter(5)),
    dispute.wonAfterAll(daysAfter(6)),
    stripe.chargeRefunded(private_, at(7)),
    stripe.refundFailed(private_, at(7.1)),
    stripe.chargeRefunded(private_, at(8)),
    notMade('refund.updated', 'canceled', 8.1),
    stripe.chargeRefunded(private_, at(8.2)),
    notMade('charge.refund.updated', 'failed', 8.3),
    // Two updates with the same timestamp: `previous_attributes` orders them.
    changed('updated', { cancel_at_period_end: true }, 9, { cancel_at_period_end: false, ...PERSONAL }),
    changed('updated', { cancel_at_period_end: true, status: 'past_due' }, 9, {
      status: 'active',
      metadata: METADATA,
    }),
    changed('paused', { status: 'paused' }, 10, { status: 'past_due' }),
    changed('resumed', {}, 11, { status: 'paused' }),
    changed('deleted', { status: 'canceled', ended_at: epoch(daysAfter(12)) }, 12),
    stripeEvent('customer.deleted', person, at(13)),
  ];
}
