import * as z from 'zod';

import { followMoney } from '../../access/follow.ts';
import { paymentOf } from '../../access/payments.ts';
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

/** A refund, as far as it says what became of it. */
export interface RefundSnapshot {
  /** The payment that it gives back: of the payment intent, else of the charge; null when it names none. */
  paymentId: string | null;
  status: string | null;
}

/**
 * Reads a refund. https://docs.stripe.com/api/refunds/object
 *
 * @param object the JSON object
 * @returns what we keep of it
 * @throws ZodError when it is no refund
 */
export function readRefund(object: unknown): RefundSnapshot {
  const raw = refundShape.parse(object);
  return { paymentId: idOf(raw.payment_intent ?? raw.charge), status: raw.status ?? null };
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
  const failed = { ...payment, refundFailedAt };
  rows.payments.set(payment.id, failed);
  return failed;
}

/** What becomes of a refund whose money came back. https://docs.stripe.com/api/refunds/object#refund_object-status */
const CALLED_OFF: ReadonlySet<string> = new Set(['failed', 'canceled']);

/**
 * `refund.failed`, and `refund.updated` or `charge.refund.updated` with the status `failed` or `canceled`: the money is back
 * with us, and what the refund took back is returned.
 */
export const onRefundChanged: EventHandler = (event) => {
  const { paymentId, status } = readRefund(event.object);
  const calledOff = event.type === 'refund.failed' || CALLED_OFF.has(status ?? '');
  if (!calledOff) return ignored('a refund that stands is told by charge.refunded');
  // An update of a refund that failed long ago must not undo a refund that was made since.
  if (!tellsOfStatus(event)) return ignored('the status of the refund did not change');
  if (paymentId === null) return ignored('the refund names no payment');
  return {
    wants: { payments: [paymentId], returned: [paymentId] },
    apply: (tx) => {
      const payment = storeFailedRefund(tx, paymentOf(tx, paymentId), event.created);
      if (!payment) return ignored('a later failure is known');
      followMoney(tx, payment, causeOf(event));
      return OK;
    },
  };
};

/** An update that does not say what it changed counts as one of the status. */
function tellsOfStatus({ type, previousAttributes }: StripeEvent): boolean {
  const changed = Object.keys(previousAttributes);
  return type === 'refund.failed' || changed.length === 0 || changed.includes('status');
}
