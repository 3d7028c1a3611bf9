import * as z from 'zod';

import { follow, followRenewal } from '../../access/follow.ts';
import { customerOf } from '../../access/customers.ts';
import { anyMoneyBack, invoiceOf, storePaymentOfInvoice } from '../../access/payments.ts';
import { ensureSubscription, refreshProof } from '../../access/subscriptions.ts';
import type { Subscription } from '../../db/generated/client.ts';
import type { Unit } from '../../db/unit-of-work.ts';
import { DAY_SECONDS, isoText, secondsBetween } from '../../instants.ts';
import { idOnce, queue } from '../../outbox/queue.ts';
import { dateOf, idOf, instant, optionalReference, text } from './common.ts';
import { causeOf, ignored, OK } from './handler.ts';
import type { EventHandler } from './handler.ts';

export const invoiceShape = z.object({
  id: text,
  customer: optionalReference,
  status: z.string().nullish(),
  attempted: z.boolean().nullish(),
  billing_reason: z.string().nullish(),
  amount_paid: z.number().nullish(),
  attempt_count: z.number().nullish(),
  next_payment_attempt: instant.nullish(),
  status_transitions: z.object({ paid_at: instant.nullish() }).nullish(),
  test_clock: optionalReference,
  /** Until API 2025-03 (basil) an invoice named its subscription and its payment by itself. */
  subscription: optionalReference,
  payment_intent: optionalReference,
  charge: optionalReference,
  /** Since then its subscription is here, and its payments are objects of their own (see invoice-payment.ts). */
  parent: z
    .object({ subscription_details: z.object({ subscription: optionalReference }).nullish() })
    .nullish(),
});

/** An invoice, as far as it says something about a subscription's money. */
export interface InvoiceFacts {
  id: string;
  customerId: string | null;
  subscriptionId: string | null;
  /** Its payment, in the shapes that name it: of the payment intent, else of the charge. */
  paymentId: string | null;
  /** It started the subscription. */
  first: boolean;
  /** Money moved. */
  positive: boolean;
  paidAt: Date | null;
  status: string | null;
  /** Collecting it was tried. */
  attempted: boolean;
  /** How often; null when it does not say. */
  attempts: number | null;
  /** When Stripe tries next to collect it. */
  nextAttemptAt: Date | null;
  /** Its time is a simulation. https://docs.stripe.com/billing/testing/test-clocks */
  testClock: boolean;
}

/**
 * Reads an invoice in today's API shape and in those before 2025-03 (basil).
 * https://docs.stripe.com/api/invoices/object
 *
 * @param object the JSON object
 * @returns what we keep of it
 * @throws ZodError when it is no invoice in any of these shapes
 */
export function readInvoice(object: unknown): InvoiceFacts {
  const raw = invoiceShape.parse(object);
  return {
    id: raw.id,
    customerId: idOf(raw.customer),
    subscriptionId: idOf(raw.parent?.subscription_details?.subscription ?? raw.subscription),
    paymentId: idOf(raw.payment_intent ?? raw.charge),
    first: raw.billing_reason === 'subscription_create',
    positive: (raw.amount_paid ?? 0) > 0,
    paidAt: dateOf(raw.status_transitions?.paid_at),
    status: raw.status ?? null,
    attempted: raw.attempted ?? false,
    attempts: raw.attempt_count ?? null,
    nextAttemptAt: dateOf(raw.next_payment_attempt),
    testClock: idOf(raw.test_clock) !== null,
  };
}

/**
 * `invoice.paid`: the proof of payment where being active is none, or (a first invoice of zero) the sign that nothing
 * was paid. Kept even when the subscription or the user is not known yet. A renewal's changes nothing, unless the money of
 * all earlier ones went back.
 */
export const onInvoicePaid: EventHandler = (event) => {
  const invoice = readInvoice(event.object);
  const { id, subscriptionId, customerId, paymentId } = invoice;
  if (subscriptionId === null) return ignored('the invoice is of no subscription');
  if (customerId === null) return ignored('the invoice has no customer');
  return {
    wants: {
      payments: paymentId === null ? [] : [paymentId],
      invoices: [id],
      customers: [customerId],
      subscriptions: [subscriptionId],
    },
    apply: (tx) => {
      const paidAt = invoice.paidAt ?? event.created;
      if (paymentId !== null) storePaymentOfInvoice(tx, paymentId, id);
      storePaidInvoice(tx, invoice, paidAt);
      const { userId } = customerOf(tx, customerId);
      const known = ensureSubscription(tx, subscriptionId, customerId);
      // Its payment can be one whose refund or dispute was heard of before.
      const isBack = anyMoneyBack(tx, id);
      const subscription = isBack ? { ...known, moneyBack: true } : known;
      tx.rows.subscriptions.set(subscriptionId, subscription);

      if (invoice.positive && isRenewal(subscription, paidAt) && !isBack) {
        if (userId !== null) followRenewal(tx, userId, causeOf(event));
        return OK;
      }
      const onProof = refreshProof(tx, subscription, event.created) || isBack;
      if (onProof && userId !== null) follow(tx, userId, causeOf(event), true);
      return OK;
    },
  };
};

/** An earlier invoice was paid already, or one of the same second: this one proves nothing new. */
function isRenewal({ firstPaidAt }: Subscription, paidAt: Date): boolean {
  return firstPaidAt !== null && firstPaidAt <= paidAt;
}

const SHOWS_IN_STATUS = ignored("a renewal that failed shows in the subscription's status");

/**
 * `invoice.payment_failed` and `invoice.payment_action_required`: when it is the first invoice, being active proves no
 * payment. What a failed renewal means, the subscription's own status says. The user is told of each try that failed.
 */
export const onInvoiceUnpaid: EventHandler = (event, { mail }) => {
  const invoice = readInvoice(event.object);
  const { id, first, subscriptionId, customerId } = invoice;
  if (subscriptionId === null) return ignored('the invoice is of no subscription');
  if (customerId === null) return ignored('the invoice has no customer');
  const tells = mail && event.type === 'invoice.payment_failed';
  if (!first && !tells) return SHOWS_IN_STATUS;
  return {
    wants: { invoices: first ? [id] : [], customers: [customerId], subscriptions: [subscriptionId] },
    apply: (tx) => {
      const isTold = tells && tellPaymentFailed(tx, invoice, event.created);
      if (!first) return isTold ? OK : SHOWS_IN_STATUS;
      storeFailedInvoice(tx, invoice, event.created);
      const { userId } = customerOf(tx, customerId);
      const subscription = ensureSubscription(tx, subscriptionId, customerId);
      const onProof = refreshProof(tx, subscription, event.created);
      if (onProof && userId !== null) follow(tx, userId, causeOf(event), true);
      return OK;
    },
  };
};

/** An event that is heard later than this tells nobody that a payment failed: by then there was another try, s. */
const TELLING_SECONDS = 3 * DAY_SECONDS;

/** Queues the mail about one failed try, once; whether there is anybody to tell. */
function tellPaymentFailed({ rows, ...tx }: Unit, invoice: InvoiceFacts, failedAt: Date): boolean {
  const { id: invoiceId, customerId, subscriptionId, attempts, nextAttemptAt } = invoice;
  const user = rows.users.get(rows.customers.get(customerId ?? '')?.userId ?? '');
  const counts = rows.subscriptions.get(subscriptionId ?? '')?.counts ?? tx.programme.products === null;
  const isOld = secondsBetween(failedAt, tx.now) > TELLING_SECONDS;
  if (!user || user.deletedAt || !counts || isOld) return false;
  queue(
    { ...tx, rows },
    {
      id: idOnce('mail.payment-failed', invoiceId, String(attempts ?? failedAt.getTime())),
      kind: 'mail.payment-failed',
      userId: user.id,
      data: { invoiceId, nextAttempt: nextAttemptAt && isoText(nextAttemptAt) },
    },
  );
  return true;
}

/**
 * Keeps what a paid invoice says.
 *
 * @param tx the unit of work, which holds the invoice's lock
 * @param invoice the invoice
 * @param paidAt when it was paid, UTC
 */
export function storePaidInvoice(tx: Unit, invoice: InvoiceFacts, paidAt: Date): void {
  const { id, subscriptionId, first, positive } = invoice;
  tx.rows.invoices.set(id, { ...invoiceOf(tx, id), subscriptionId, first, positive, paidAt });
}

/**
 * Keeps that a try to collect a subscription's first invoice failed.
 *
 * @param tx the unit of work, which holds the invoice's lock
 * @param invoice the invoice
 * @param failedAt when, UTC; of several tries the earliest is kept
 */
export function storeFailedInvoice(tx: Unit, invoice: InvoiceFacts, failedAt: Date): void {
  const { id, subscriptionId, first } = invoice;
  const known = invoiceOf(tx, id);
  if (known.failedAt && known.failedAt <= failedAt) return;
  tx.rows.invoices.set(id, { ...known, subscriptionId, first, failedAt });
}
