import * as z from 'zod';

import { ensureCustomerRow } from '../../access/customers.ts';
import { follow, followRenewal } from '../../access/follow.ts';
import { anyMoneyBack, ensureInvoice, storePaymentOfInvoice } from '../../access/payments.ts';
import { ensureSubscription, changeSubscription, refreshProof } from '../../access/subscriptions.ts';
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
  /** Until API 2025-03 (basil) an invoice named its subscription and its payment. */
  subscription: optionalReference,
  payment_intent: optionalReference,
  charge: optionalReference,
  /** Since then the subscription is here, and payments are separate objects (see invoice-payment.ts). */
  parent: z
    .object({ subscription_details: z.object({ subscription: optionalReference }).nullish() })
    .nullish(),
});

/** What an invoice says about a subscription's money. */
export interface InvoiceFacts {
  id: string;
  customerId: string | null;
  subscriptionId: string | null;
  /** The payment intent's id, or the charge's if it has no payment intent; null in API versions that name neither. */
  paymentId: string | null;
  /** The subscription's first invoice. */
  first: boolean;
  /** Money moved. */
  positive: boolean;
  paidAt: Date | null;
  status: string | null;
  /** Stripe tried to collect it. */
  attempted: boolean;
  /** Attempts to collect it; null when it does not say. */
  attempts: number | null;
  /** When Stripe tries to collect it next. */
  nextAttemptAt: Date | null;
  /** Its time is simulated. https://docs.stripe.com/billing/testing/test-clocks */
  testClock: boolean;
}

/**
 * Reads an invoice in the API versions before and since 2025-03 (basil). https://docs.stripe.com/api/invoices/object
 *
 * @throws ZodError when the object is not an invoice
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
 * `invoice.paid`: proves payment where being active is not enough. A first invoice of zero shows that nothing was paid.
 * Stored even before the subscription or the user is known. A renewal changes nothing, unless the referral is reversed or
 * the invoice's own payment was refunded or disputed.
 */
export const onInvoicePaid: EventHandler = (event) => {
  const invoice = readInvoice(event.object);
  const { id, subscriptionId, customerId, paymentId } = invoice;
  if (subscriptionId === null) return ignored('the invoice does not belong to a subscription');
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
      const { userId } = ensureCustomerRow(tx, customerId);
      const known = ensureSubscription(tx, subscriptionId, customerId);
      // Its payment's refund or dispute may have come earlier.
      const hasMoneyBack = anyMoneyBack(tx, id);
      const subscription = hasMoneyBack ? { ...known, moneyBack: true } : known;
      tx.rows.subscriptions.set(subscriptionId, subscription);

      if (invoice.positive && isRenewal(subscription, paidAt) && !hasMoneyBack) {
        if (userId !== null) followRenewal(tx, userId, causeOf(event));
        return OK;
      }
      const bearsOnMoney = refreshProof(tx, subscription, event.created) || hasMoneyBack;
      if (bearsOnMoney && userId !== null) follow(tx, userId, causeOf(event), true);
      return OK;
    },
  };
};

/** An invoice of the same second or earlier was paid already, so this one proves nothing new. */
function isRenewal({ firstPaidAt }: Subscription, paidAt: Date): boolean {
  return firstPaidAt !== null && firstPaidAt <= paidAt;
}

const SHOWS_IN_STATUS = ignored("a failed renewal shows in the subscription's status");

/**
 * `invoice.payment_failed` and `invoice.payment_action_required`: if it is the first invoice, being active is no
 * proof of payment. A failed renewal shows in the subscription's own status; only the time of the next attempt is
 * stored. The user gets an email about each failed attempt.
 */
export const onInvoiceUnpaid: EventHandler = (event, { mail }) => {
  const invoice = readInvoice(event.object);
  const { id, first, subscriptionId, customerId, nextAttemptAt } = invoice;
  if (subscriptionId === null) return ignored('the invoice does not belong to a subscription');
  if (customerId === null) return ignored('the invoice has no customer');
  const tells = mail && event.type === 'invoice.payment_failed';
  if (!first && !tells && nextAttemptAt === null) return SHOWS_IN_STATUS;
  return {
    wants: { invoices: first ? [id] : [], customers: [customerId], subscriptions: [subscriptionId] },
    apply: (tx) => {
      const isTold = tells && tellPaymentFailed(tx, invoice, event.created);
      const isNews =
        nextAttemptAt !== null && storeNextAttempt(tx, subscriptionId, customerId, nextAttemptAt);
      if (!first) return isTold || isNews ? OK : SHOWS_IN_STATUS;
      storeFailedInvoice(tx, invoice, event.created);
      const { userId } = ensureCustomerRow(tx, customerId);
      const subscription = ensureSubscription(tx, subscriptionId, customerId);
      const proofChanged = refreshProof(tx, subscription, event.created);
      if (proofChanged && userId !== null) follow(tx, userId, causeOf(event), true);
      return OK;
    },
  };
};

/**
 * Maximum age of a failed payment that we still send mail about, s. An older one may have been paid or tried again
 * since.
 */
const TELLING_SECONDS = 3 * DAY_SECONDS;

/** Queues the email about one failed attempt, once. Returns false when none is due. */
function tellPaymentFailed(tx: Unit, invoice: InvoiceFacts, failedAt: Date): boolean {
  const { id: invoiceId, customerId, subscriptionId, attempts, nextAttemptAt } = invoice;
  const { users, customers, subscriptions } = tx.rows;
  const user = users.get(customers.get(customerId ?? '')?.userId ?? '');
  const counts = subscriptions.get(subscriptionId ?? '')?.counts ?? tx.programme.products === null;
  const isOld = secondsBetween(failedAt, tx.now) > TELLING_SECONDS;
  if (!user || user.deletedAt || !counts || isOld) return false;
  queue(tx, {
    id: idOnce('mail.payment-failed', invoiceId, String(attempts ?? failedAt.getTime())),
    kind: 'mail.payment-failed',
    userId: user.id,
    data: { invoiceId, subscriptionId, nextAttempt: nextAttemptAt && isoText(nextAttemptAt) },
  });
  return true;
}

/**
 * Stores when Stripe tries next to collect a subscription's open invoice. The latest time wins, whatever order the
 * events arrive in, because each attempt is later than the one before.
 *
 * @returns whether the row changed
 */
function storeNextAttempt(tx: Unit, subscriptionId: string, customerId: string, at: Date): boolean {
  const known = tx.rows.subscriptions.get(subscriptionId)?.nextAttemptAt ?? null;
  if (known !== null && known >= at) return false;
  ensureCustomerRow(tx, customerId);
  changeSubscription(tx, ensureSubscription(tx, subscriptionId, customerId), { nextAttemptAt: at });
  return true;
}

function storePaidInvoice(tx: Unit, invoice: InvoiceFacts, paidAt: Date): void {
  const { id, subscriptionId, first, positive } = invoice;
  tx.rows.invoices.set(id, { ...ensureInvoice(tx, id), subscriptionId, first, positive, paidAt });
}

/**
 * Stores that collecting a subscription's first invoice failed.
 *
 * @param failedAt event.created, UTC; the earliest is kept
 */
function storeFailedInvoice(tx: Unit, invoice: InvoiceFacts, failedAt: Date): void {
  const { id, subscriptionId, first } = invoice;
  const known = ensureInvoice(tx, id);
  if (known.failedAt && known.failedAt <= failedAt) return;
  tx.rows.invoices.set(id, { ...known, subscriptionId, first, failedAt });
}
