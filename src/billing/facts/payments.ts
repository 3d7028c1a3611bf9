import type { Dispute, Payment } from '../../db/generated/client.ts';
import type { Tx } from '../../db/transaction.ts';
import type { DisputeSnapshot } from '../stripe-shapes/dispute.ts';

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
 * Locks a payment's row until the transaction ends; one that is not known yet is inserted empty. Before every other
 * lock but the event's (design: rule 5).
 *
 * @param tx the open transaction
 * @param id of the payment intent, else of the charge
 * @returns the row as it is under the lock
 */
export async function lockPayment(tx: Tx, id: string): Promise<Payment> {
  const [payment] = await tx.$queryRaw<[Payment]>`
    INSERT INTO "Payment" ("id") VALUES (${id})
    ON CONFLICT ("id") DO UPDATE SET "refundedAt" = "Payment"."refundedAt" RETURNING *`;
  return payment;
}

/**
 * Keeps which invoice a payment is of, and locks its row. The invoice's row may follow in the same transaction.
 *
 * @param tx the open transaction
 * @param id of the payment
 * @param invoiceId of the invoice
 * @returns the row as it is now
 */
export async function storePaymentOfInvoice(tx: Tx, id: string, invoiceId: string): Promise<Payment> {
  const [payment] = await tx.$queryRaw<[Payment]>`
    INSERT INTO "Payment" ("id", "invoiceId") VALUES (${id}, ${invoiceId})
    ON CONFLICT ("id") DO UPDATE SET "invoiceId" = excluded."invoiceId" RETURNING *`;
  return payment;
}

/**
 * @param tx the open transaction
 * @param invoiceId of an invoice
 * @returns whether a refund or a dispute of any of its payments is known
 */
export async function anyMoneyBack(tx: Tx, invoiceId: string): Promise<boolean> {
  const rows = await tx.$queryRaw<unknown[]>`
    SELECT 1 FROM "Payment" AS p
    WHERE p."invoiceId" = ${invoiceId}
      AND (p."refundedAt" IS NOT NULL OR EXISTS (SELECT 1 FROM "Dispute" AS d WHERE d."paymentId" = p."id"))
    LIMIT 1`;
  return rows.length > 0;
}

/**
 * Keeps that a payment was refunded in full.
 *
 * @param tx the open transaction
 * @param payment the locked payment
 * @param at event.created of what showed it, UTC; the earliest and the newest are kept
 * @returns whether that was news
 */
export async function storeFullRefund(tx: Tx, payment: Payment, at: Date): Promise<boolean> {
  const { id, firstRefundedAt, refundedAt } = payment;
  const isFirst = firstRefundedAt === null || at < firstRefundedAt;
  const isNewest = refundedAt === null || at > refundedAt;
  if (!isFirst && !isNewest) return false;
  await tx.payment.update({
    where: { id },
    data: { ...(isFirst && { firstRefundedAt: at }), ...(isNewest && { refundedAt: at }) },
  });
  return true;
}

/**
 * Keeps that a refund of a payment failed or was cancelled: the money is back with us.
 *
 * @param tx the open transaction
 * @param payment the locked payment
 * @param refundFailedAt event.created of what showed it, UTC; the newest is kept
 * @returns whether that was news
 */
export async function storeFailedRefund(tx: Tx, payment: Payment, refundFailedAt: Date): Promise<boolean> {
  if (payment.refundFailedAt && payment.refundFailedAt >= refundFailedAt) return false;
  await tx.payment.update({ where: { id: payment.id }, data: { refundFailedAt } });
  return true;
}

/**
 * Keeps what a snapshot of a dispute says, unless a newer one is known. The caller holds the payment's lock.
 *
 * @param tx the open transaction
 * @param paymentId the payment that is disputed
 * @param dispute the snapshot
 * @param snapshotAt its event.created, UTC
 * @returns whether the row took it over
 */
export async function storeDispute(
  tx: Tx,
  paymentId: string,
  dispute: DisputeSnapshot,
  snapshotAt: Date,
): Promise<boolean> {
  const { id, status } = dispute;
  const known = await tx.dispute.findUnique({ where: { id } });
  if (known && !isNewer({ status, snapshotAt }, known)) return false;
  const createdAt = dispute.createdAt ?? known?.createdAt ?? snapshotAt;
  const facts = { paymentId, createdAt, status, snapshotAt };
  await tx.dispute.upsert({ where: { id }, create: { id, ...facts }, update: facts });
  return true;
}

/**
 * Sets a dispute's row to what Stripe answered when asked. It stays as new as the newest event that was seen of it. The
 * caller holds the payment's lock.
 *
 * @param tx the open transaction
 * @param paymentId the payment that is disputed
 * @param dispute Stripe's answer
 */
export async function storeFetchedDispute(
  tx: Tx,
  paymentId: string,
  dispute: DisputeSnapshot,
): Promise<void> {
  const { id, status } = dispute;
  const createdAt = dispute.createdAt ?? tx.now;
  const fresh = { id, paymentId, status, createdAt, snapshotAt: createdAt };
  await tx.dispute.upsert({ where: { id }, create: fresh, update: { paymentId, status, createdAt } });
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
