import type { Dispute } from '../db/generated/client.ts';
import type { Tx } from '../db/transaction.ts';
import { DAY_SECONDS, secondsBetween } from '../instants.ts';
import { refundedSince } from './facts/payments.ts';
import type { RefundFacts } from './facts/payments.ts';

/** A payment with all that is known of its way back. */
export type PaymentFacts = RefundFacts & {
  disputes: readonly Pick<Dispute, 'status' | 'createdAt'>[];
};

/**
 * Whether the money of a user's first payment went back: every payment of their earliest positive invoice was
 * refunded in full, or a dispute of it was lost, and that soon enough (design: rule 9).
 *
 * @param tx the open transaction, which holds the user's lock
 * @param userId whose payments
 * @param clawbackDays how long after the invoice was paid a refund, or the opening of a dispute, counts
 * @returns true while the conversion does not hold
 */
export async function isMoneyBack(tx: Tx, userId: string, clawbackDays: number): Promise<boolean> {
  const invoice = await tx.invoice.findFirst({
    where: { positive: true, subscription: { customer: { userId } } },
    orderBy: [{ paidAt: 'asc' }, { id: 'asc' }],
    include: { payments: { include: { disputes: true } } },
  });
  if (!invoice?.paidAt) return false;
  return areAllBack(invoice.payments, invoice.paidAt, clawbackDays);
}

/**
 * @param payments all known payments of one invoice
 * @param paidAt when the invoice was paid, UTC
 * @param clawbackDays how long after that a refund, or the opening of a dispute, counts
 * @returns whether there are any, and the money of each of them went back
 */
export function areAllBack(payments: readonly PaymentFacts[], paidAt: Date, clawbackDays: number): boolean {
  const inTime = (at: Date): boolean => secondsBetween(paidAt, at) <= clawbackDays * DAY_SECONDS;
  return payments.length > 0 && payments.every((payment) => isBack(payment, inTime));
}

function isBack(payment: PaymentFacts, inTime: (at: Date) => boolean): boolean {
  const refundedAt = refundedSince(payment);
  if (refundedAt && inTime(refundedAt)) return true;
  return payment.disputes.some((dispute) => dispute.status === 'lost' && inTime(dispute.createdAt));
}
