import type { Dispute, Payment } from '../../db/generated/client.ts';
import type { Unit } from '../../db/unit-of-work.ts';
import type { DisputeSnapshot } from './dispute.ts';

/** A dispute that was lost can be appealed against (`appeal_needs_response`, `appeal_under_review`). */
const APPEAL = 'appeal_';

/**
 * Whether a dispute is lost. An appeal changes nothing until it is won (design: rule 9).
 * https://docs.stripe.com/api/disputes/object#dispute_object-status
 */
export function isLost({ status }: Pick<Dispute, 'status'>): boolean {
  return status === 'lost' || status.startsWith(APPEAL);
}

/**
 * @param tx the unit of work, which holds the payment's lock
 * @param id of the payment intent, else of the charge
 * @returns its row; an empty one when nothing was known of it
 */
export function paymentOf({ rows }: Unit, id: string): Payment {
  const known = rows.payments.get(id);
  if (known) return known;
  return put(rows, { id, invoiceId: null, firstRefundedAt: null, refundedAt: null, refundFailedAt: null });
}

/**
 * Keeps which invoice a payment is of.
 *
 * @param tx the unit of work, which holds the payment's lock
 * @param id of the payment
 * @param invoiceId of the invoice
 * @returns the row as it is now
 */
export function storePaymentOfInvoice(tx: Unit, id: string, invoiceId: string): Payment {
  const payment = paymentOf(tx, id);
  return payment.invoiceId === invoiceId ? payment : put(tx.rows, { ...payment, invoiceId });
}

/**
 * @param tx the unit of work
 * @param invoiceId of an invoice that was named
 * @returns whether a refund or a dispute of any of its payments is known
 */
export function anyMoneyBack({ rows }: Unit, invoiceId: string): boolean {
  return [...rows.payments.values()].some(
    (payment) =>
      payment.invoiceId === invoiceId &&
      (payment.refundedAt !== null ||
        [...rows.disputes.values()].some(({ paymentId }) => paymentId === payment.id)),
  );
}

/**
 * Keeps that a payment was refunded in full.
 *
 * @param tx the unit of work, which holds the payment's lock
 * @param payment the payment
 * @param at event.created of what showed it, UTC; the earliest and the newest are kept
 * @returns the row as it is now; null when that was no news
 */
export function storeFullRefund({ rows }: Unit, payment: Payment, at: Date): Payment | null {
  const { firstRefundedAt, refundedAt } = payment;
  const isFirst = firstRefundedAt === null || at < firstRefundedAt;
  const isNewest = refundedAt === null || at > refundedAt;
  if (!isFirst && !isNewest) return null;
  return put(rows, {
    ...payment,
    ...(isFirst && { firstRefundedAt: at }),
    ...(isNewest && { refundedAt: at }),
  });
}

/**
 * Keeps that a refund of a payment failed or was cancelled: the money is back with us.
 *
 * @param tx the unit of work, which holds the payment's lock
 * @param payment the payment
 * @param refundFailedAt event.created of what showed it, UTC; the newest is kept
 * @returns the row as it is now; null when that was no news
 */
export function storeFailedRefund({ rows }: Unit, payment: Payment, refundFailedAt: Date): Payment | null {
  if (payment.refundFailedAt && payment.refundFailedAt >= refundFailedAt) return null;
  return put(rows, { ...payment, refundFailedAt });
}

/**
 * Keeps what a snapshot of a dispute says, unless a newer one is known.
 *
 * @param tx the unit of work, which holds the payment's lock
 * @param paymentId the payment that is disputed
 * @param dispute the snapshot
 * @param snapshotAt its event.created, UTC
 * @returns whether the row took it over
 */
export function storeDispute(
  { rows }: Unit,
  paymentId: string,
  dispute: DisputeSnapshot,
  snapshotAt: Date,
): boolean {
  const { id, status } = dispute;
  const known = rows.disputes.get(id);
  if (known && !isNewer({ status, snapshotAt }, known)) return false;
  const createdAt = dispute.createdAt ?? known?.createdAt ?? snapshotAt;
  rows.disputes.set(id, { id, paymentId, createdAt, status, snapshotAt });
  return true;
}

/**
 * Sets a dispute's row to what Stripe answered when asked. It stays as new as the newest event that was seen of it.
 *
 * @param tx the unit of work, which holds the payment's lock
 * @param paymentId the payment that is disputed
 * @param dispute Stripe's answer
 */
export function storeFetchedDispute({ rows, now }: Unit, paymentId: string, dispute: DisputeSnapshot): void {
  const { id, status } = dispute;
  const createdAt = dispute.createdAt ?? now;
  const snapshotAt = rows.disputes.get(id)?.snapshotAt ?? createdAt;
  rows.disputes.set(id, { id, paymentId, status, createdAt, snapshotAt });
}

function put({ payments }: Unit['rows'], payment: Payment): Payment {
  payments.set(payment.id, payment);
  return payment;
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

interface DisputeState {
  status: string;
  snapshotAt: Date;
}

function isNewer(snapshot: DisputeState, known: DisputeState): boolean {
  if (snapshot.snapshotAt.getTime() !== known.snapshotAt.getTime())
    return snapshot.snapshotAt > known.snapshotAt;
  return progressOf(snapshot.status) > progressOf(known.status);
}

/** Of two snapshots of one second the one further along holds: a bank can still give a lost dispute back. */
function progressOf(status: string): number {
  if (status === 'won') return 3;
  if (status.startsWith(APPEAL)) return 2;
  return status === 'lost' ? 1 : 0;
}
