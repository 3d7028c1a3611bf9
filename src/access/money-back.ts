import type { Dispute, Invoice, Payment, Subscription } from '../db/generated/client.ts';
import type { Unit } from '../db/unit-of-work.ts';
import { DAY_SECONDS, secondsBetween } from '../instants.ts';

/** A dispute that was lost can be appealed against (`appeal_needs_response`, `appeal_under_review`). */
export const APPEAL = 'appeal_';

/**
 * Whether a dispute is lost. An appeal changes nothing until it is won (design: rule 9).
 * https://docs.stripe.com/api/disputes/object#dispute_object-status
 */
export function isLost({ status }: Pick<Dispute, 'status'>): boolean {
  return status === 'lost' || status.startsWith(APPEAL);
}

/** What we hold of a payment's refunds. */
export type RefundFacts = Pick<Payment, 'firstRefundedAt' | 'refundedAt' | 'refundFailedAt'>;

/**
 * Since when a payment is refunded in full, with no refund of it that failed or was cancelled since (design: rule 9).
 *
 * @param payment what we hold of it
 * @returns event.created of the event that showed it first, UTC; null while it is not
 */
export function refundedSince({ firstRefundedAt, refundedAt, refundFailedAt }: RefundFacts): Date | null {
  const holds = (at: Date | null): at is Date =>
    at !== null && (refundFailedAt === null || refundFailedAt < at);
  if (holds(firstRefundedAt)) return firstRefundedAt;
  return holds(refundedAt) ? refundedAt : null;
}

/** A payment with all that is known of its way back. */
export type PaymentFacts = RefundFacts & {
  disputes: readonly Pick<Dispute, 'status' | 'createdAt'>[];
};

/** What decides whether the money of a paid invoice is still here. */
export type InvoiceMoney = Pick<Invoice, 'positive' | 'paidAt'> & { payments: readonly PaymentFacts[] };

/**
 * Whether a conversion may rest on a subscription (design: rule 9): one of its positive invoices has not gone back, or no
 * positive invoice is known and it was active in a way that proves payment. Its status now does not matter.
 *
 * @param subscription since when it is proven, and its invoices
 * @param clawbackDays how long after an invoice was paid a refund, or the opening of a dispute, counts
 * @returns whether it holds
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
 * @param invoice a paid invoice, with all of its known payments
 * @param clawbackDays how long after it was paid a refund, or the opening of a dispute, counts
 * @returns whether the money of each payment went back; false while no payment is known
 */
export function hasGoneBack({ paidAt, payments }: InvoiceMoney, clawbackDays: number): boolean {
  if (paidAt === null || payments.length === 0) return false;
  const inTime = (at: Date): boolean => secondsBetween(paidAt, at) <= clawbackDays * DAY_SECONDS;
  return payments.every((payment) => isBack(payment, inTime));
}

/**
 * @param tx the unit of work
 * @param subscriptions all of a user's
 * @returns whether any of them holds
 */
export function anyHolds({ rows, programme }: Unit, subscriptions: readonly Subscription[]): boolean {
  return subscriptions.some((subscription) => {
    // Nothing of it went back: its invoices need not be looked at.
    if (!subscription.moneyBack) return subscription.provenAt !== null;
    const { id, provenAt } = subscription;
    const invoices = [...rows.invoices.values()]
      .filter(({ subscriptionId }) => subscriptionId === id)
      .map((invoice) => ({ ...invoice, payments: paymentsOf(rows, invoice.id) }));
    return holds({ provenAt, invoices }, programme.clawbackDays);
  });
}

function paymentsOf({ payments, disputes }: Unit['rows'], invoice: string): PaymentFacts[] {
  return [...payments.values()]
    .filter(({ invoiceId }) => invoiceId === invoice)
    .map((payment) => ({
      ...payment,
      disputes: [...disputes.values()].filter(({ paymentId }) => paymentId === payment.id),
    }));
}

function isBack(payment: PaymentFacts, inTime: (at: Date) => boolean): boolean {
  const refundedAt = refundedSince(payment);
  if (refundedAt && inTime(refundedAt)) return true;
  return payment.disputes.some((dispute) => isLost(dispute) && inTime(dispute.createdAt));
}
