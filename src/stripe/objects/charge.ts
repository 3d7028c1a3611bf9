import * as z from 'zod';

import { followMoney } from '../../access/follow.ts';
import { paymentOf, storePaymentOfInvoice } from '../../access/payments.ts';
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

/** A charge, as far as it says whether its money went back. */
export interface ChargeFacts {
  /** Of the payment intent, else of the charge. */
  paymentId: string;
  /** Its invoice, in the shapes that name it. */
  invoiceId: string | null;
  /** All of it went back. */
  refundedInFull: boolean;
}

/**
 * Reads a charge in today's API shape and in those before 2025-03 (basil).
 * https://docs.stripe.com/api/charges/object
 *
 * @param object the JSON object
 * @returns what we keep of it
 * @throws ZodError when it is no charge in any of these shapes
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
  const refunded = {
    ...payment,
    ...(isFirst && { firstRefundedAt: at }),
    ...(isNewest && { refundedAt: at }),
  };
  rows.payments.set(payment.id, refunded);
  return refunded;
}

/** `charge.refunded`: a full refund of the payment that converted takes the conversion back. A partial one does nothing. */
export const onChargeRefunded: EventHandler = (event) => {
  const { paymentId, invoiceId, refundedInFull } = readCharge(event.object);
  if (!refundedInFull) return ignored('a partial refund takes nothing back');
  return {
    wants: { payments: [paymentId], returned: [paymentId], invoices: invoiceId === null ? [] : [invoiceId] },
    apply: (tx) => {
      const known =
        invoiceId === null ? paymentOf(tx, paymentId) : storePaymentOfInvoice(tx, paymentId, invoiceId);
      const payment = storeFullRefund(tx, known, event.created);
      if (!payment) return ignored('this refund is known');
      followMoney(tx, payment, causeOf(event));
      return OK;
    },
  };
};
