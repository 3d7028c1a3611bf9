import * as z from 'zod';

import { followMoney } from '../../access/follow.ts';
import { ensurePayment, storePaymentOfInvoice } from '../../access/payments.ts';
import type { Payment } from '../../db/generated/client.ts';
import type { Unit } from '../../db/unit-of-work.ts';
import { idOf, optionalReference, text } from './common.ts';
import { causeOf, ignored, OK } from './handler.ts';
import type { EventHandler } from './handler.ts';

export const chargeShape = z.object({
  id: text,
  payment_intent: optionalReference,
  /** Until API 2025-03 (basil). */
  invoice: optionalReference,
  refunded: z.boolean().nullish(),
});

/** Whether a charge was refunded. */
export interface ChargeFacts {
  /** The payment intent's id, or the charge's if it has no payment intent. */
  paymentId: string;
  /** Null in API versions that do not name it. */
  invoiceId: string | null;
  refundedInFull: boolean;
}

/**
 * Reads a charge in the API versions before and since 2025-03 (basil). https://docs.stripe.com/api/charges/object
 *
 * @throws ZodError when the object is not a charge
 */
export function readCharge(object: unknown): ChargeFacts {
  const raw = chargeShape.parse(object);
  return {
    paymentId: idOf(raw.payment_intent) ?? raw.id,
    invoiceId: idOf(raw.invoice),
    refundedInFull: raw.refunded === true,
  };
}

/**
 * Stores a full refund.
 *
 * @param at event.created, UTC; the earliest and the newest are kept
 * @returns the changed row; null when nothing changed
 */
function storeFullRefund({ rows }: Unit, payment: Payment, at: Date): Payment | null {
  const { firstRefundedAt, refundedAt } = payment;
  const isFirst = firstRefundedAt === null || at < firstRefundedAt;
  const isNewest = refundedAt === null || at > refundedAt;
  if (!isFirst && !isNewest) return null;
  const refunded = {
    ...payment,
    ...(isFirst && { firstRefundedAt: at }),
    ...(isNewest && { refundedAt: at }),
  };
  rows.payments.set(payment.id, refunded);
  return refunded;
}

/** `charge.refunded`: a full refund can reverse the conversion. A partial refund changes nothing. */
export const onChargeRefunded: EventHandler = (event) => {
  const { paymentId, invoiceId, refundedInFull } = readCharge(event.object);
  if (!refundedInFull) return ignored('a partial refund changes nothing');
  return {
    wants: { payments: [paymentId], moneyBack: [paymentId], invoices: invoiceId === null ? [] : [invoiceId] },
    apply: (tx) => {
      const known =
        invoiceId === null ? ensurePayment(tx, paymentId) : storePaymentOfInvoice(tx, paymentId, invoiceId);
      const payment = storeFullRefund(tx, known, event.created);
      if (!payment) return ignored('this refund is already known');
      followMoney(tx, payment, causeOf(event));
      return OK;
    },
  };
};
