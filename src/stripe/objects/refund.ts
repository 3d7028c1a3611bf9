import * as z from 'zod';

import { followMoney } from '../../access/follow.ts';
import { ensurePayment } from '../../access/payments.ts';
import type { Payment } from '../../db/generated/client.ts';
import type { Unit } from '../../db/unit-of-work.ts';
import { idOf, optionalReference, text } from './common.ts';
import type { StripeEvent } from './event.ts';
import { causeOf, ignored, OK } from './handler.ts';
import type { EventHandler } from './handler.ts';

export const refundShape = z.object({
  id: text,
  payment_intent: optionalReference,
  charge: optionalReference,
  status: z.string().nullish(),
});

/** A refund and its status. */
export interface RefundSnapshot {
  /** The payment intent's id, or the charge's if it has no payment intent; null when the refund names neither. */
  paymentId: string | null;
  status: string | null;
}

/**
 * Reads a refund. https://docs.stripe.com/api/refunds/object
 *
 * @throws ZodError when the object is not a refund
 */
function readRefund(object: unknown): RefundSnapshot {
  const raw = refundShape.parse(object);
  return { paymentId: idOf(raw.payment_intent ?? raw.charge), status: raw.status ?? null };
}

/**
 * Stores that a refund failed or was canceled: the money stayed with us.
 *
 * @param refundFailedAt event.created, UTC; the newest is kept
 * @returns the changed row; null when nothing changed
 */
function storeFailedRefund({ rows }: Unit, payment: Payment, refundFailedAt: Date): Payment | null {
  if (payment.refundFailedAt && payment.refundFailedAt >= refundFailedAt) return null;
  const failed = { ...payment, refundFailedAt };
  rows.payments.set(payment.id, failed);
  return failed;
}

/** Statuses of a refund that was not made after all. https://docs.stripe.com/api/refunds/object#refund_object-status */
export const NOT_MADE: ReadonlySet<string> = new Set(['failed', 'canceled']);

/**
 * `refund.failed`, and `refund.updated` or `charge.refund.updated` with the status `failed` or `canceled`: the
 * money stays with us after all, so the credit that the refund reversed is restored.
 */
export const onRefundChanged: EventHandler = (event) => {
  const { paymentId, status } = readRefund(event.object);
  const notMade = event.type === 'refund.failed' || NOT_MADE.has(status ?? '');
  if (!notMade) return ignored('charge.refunded reports refunds that succeed');
  // A later update of an old failed refund must not undo a refund made since.
  if (!mayHaveChangedStatus(event)) return ignored('the status of the refund did not change');
  if (paymentId === null) return ignored('the refund names no payment');
  return {
    wants: { payments: [paymentId], moneyBack: [paymentId] },
    apply: (tx) => {
      const payment = storeFailedRefund(tx, ensurePayment(tx, paymentId), event.created);
      if (!payment) return ignored('this or a later failure is already known');
      followMoney(tx, payment, causeOf(event));
      return OK;
    },
  };
};

/** An update that does not say what changed may have changed the status. */
function mayHaveChangedStatus({ type, previousAttributes }: StripeEvent): boolean {
  const changed = Object.keys(previousAttributes);
  return type === 'refund.failed' || changed.length === 0 || changed.includes('status');
}
