import type { Dispute, Invoice, Payment, Subscription } from '../db/generated/client.ts';
import type { Unit } from '../db/unit-of-work.ts';
import { DAY_SECONDS, secondsBetween } from '../instants.ts';
import type { ReversalReason } from '../outbox/kinds.ts';

/** The prefix of the statuses of an appeal against a lost dispute (`appeal_needs_response`, `appeal_under_review`). */
export const APPEAL = 'appeal_';

/**
 * The statuses of a dispute whose money is gone. A prevented one never becomes a chargeback, because the cardholder got the
 * money back at once. https://docs.stripe.com/changelog/basil/2025-08-27/add-preventions-to-dispute
 */
export const LOST: ReadonlySet<string> = new Set(['lost', 'prevented']);

/**
 * Whether a dispute is lost. An appeal changes nothing until it is won (design: rule 9).
 * https://docs.stripe.com/api/disputes/object#dispute_object-status
 */
function isLost({ status }: Pick<Dispute, 'status'>): boolean {
  return LOST.has(status) || status.startsWith(APPEAL);
}

export type RefundFacts = Pick<Payment, 'firstRefundedAt' | 'refundedAt' | 'refundFailedAt'>;

/**
 * When a payment was fully refunded (design: rule 9). Of a refund and a failure in the same second, the failure counts.
 *
 * @returns event.created of the first full refund, or of the newest one if an earlier one failed, UTC; null if it is not
 *   fully refunded, or if the refund failed or was canceled later
 */
export function refundedSince({ firstRefundedAt, refundedAt, refundFailedAt }: RefundFacts): Date | null {
  const stands = (at: Date | null): at is Date =>
    at !== null && (refundFailedAt === null || refundFailedAt < at);
  if (stands(firstRefundedAt)) return firstRefundedAt;
  return stands(refundedAt) ? refundedAt : null;
}

/** A payment with its refunds and disputes. */
export type PaymentFacts = RefundFacts & {
  disputes: readonly Pick<Dispute, 'status' | 'createdAt'>[];
};

/** What decides whether we still have the money of a paid invoice. */
export type InvoiceMoney = Pick<Invoice, 'positive' | 'paidAt'> & { payments: readonly PaymentFacts[] };

/**
 * Whether a conversion can rest on this subscription (design: rule 9): the money of one of its positive invoices
 * has not gone back, or no positive invoice is known and it was active in a way that proves payment. Its current status
 * does not matter.
 *
 * @param clawbackDays how many days after the payment a refund or a new dispute still counts
 */
export function holds(
  { provenAt, invoices }: Pick<Subscription, 'provenAt'> & { invoices: readonly InvoiceMoney[] },
  clawbackDays: number,
): boolean {
  if (provenAt === null) return false;
  const positive = invoices.filter((invoice) => invoice.positive);
  return positive.length === 0 || positive.some((invoice) => !hasGoneBack(invoice, clawbackDays));
}

/**
 * Whether every payment of a paid invoice was refunded or lost to a dispute; false while no payment is known.
 *
 * @param clawbackDays how many days after the payment a refund or a new dispute still counts
 */
export function hasGoneBack({ paidAt, payments }: InvoiceMoney, clawbackDays: number): boolean {
  if (paidAt === null || payments.length === 0) return false;
  return payments.every((payment) => returnsInTime(payment, paidAt, clawbackDays).length > 0);
}

/** The two ways in which a payment can be returned. */
interface Return {
  why: 'refund' | 'dispute';
  at: Date;
}

/** The refund and the lost disputes of a payment that came soon enough to count. */
function returnsInTime(payment: PaymentFacts, paidAt: Date, clawbackDays: number): Return[] {
  const refundedAt = refundedSince(payment);
  const returns: Return[] = payment.disputes
    .filter(isLost)
    .map(({ createdAt }) => ({ why: 'dispute', at: createdAt }));
  if (refundedAt) returns.push({ why: 'refund', at: refundedAt });
  return returns.filter(({ at }) => secondsBetween(paidAt, at) <= clawbackDays * DAY_SECONDS);
}

/** Whether any of a user's subscriptions holds (`holds`), from the rows of the unit of work. */
export function anyHolds({ rows, programme }: Unit, subscriptions: readonly Subscription[]): boolean {
  return subscriptions.some((subscription) => {
    // No refund or dispute, so there is no need to look at its invoices; `load` has not loaded all of them (`unsure`
    // there).
    if (!subscription.moneyBack) return subscription.provenAt !== null;
    const { provenAt } = subscription;
    return holds({ provenAt, invoices: invoicesOf(rows, subscription) }, programme.clawbackDays);
  });
}

/** Why none of a user's subscriptions holds (`whyGone`), from the rows of the unit of work. */
export function whyNoneHolds(
  { rows, programme }: Unit,
  subscriptions: readonly Subscription[],
): ReversalReason {
  const invoices = subscriptions.flatMap((subscription) => invoicesOf(rows, subscription));
  return whyGone(invoices, programme.clawbackDays);
}

/** Why the money of these invoices is gone: the latest refund or lost dispute, or `unpaid` if none was collected. */
export function whyGone(invoices: readonly InvoiceMoney[], clawbackDays: number): ReversalReason {
  const [last] = invoices
    .flatMap(({ paidAt, payments }) =>
      paidAt === null ? [] : payments.flatMap((payment) => returnsInTime(payment, paidAt, clawbackDays)),
    )
    .sort((a, b) => b.at.getTime() - a.at.getTime());
  return last?.why ?? 'unpaid';
}

function invoicesOf(rows: Unit['rows'], { id }: Pick<Subscription, 'id'>) {
  return [...rows.invoices.values()]
    .filter(({ subscriptionId }) => subscriptionId === id)
    .map((invoice) => ({ ...invoice, payments: paymentsOf(rows, invoice.id) }));
}

function paymentsOf({ payments, disputes }: Unit['rows'], invoice: string): PaymentFacts[] {
  return [...payments.values()]
    .filter(({ invoiceId }) => invoiceId === invoice)
    .map((payment) => ({
      ...payment,
      disputes: [...disputes.values()].filter(({ paymentId }) => paymentId === payment.id),
    }));
}
