import type { Invoice, Payment } from '../db/generated/client.ts';
import type { Unit } from '../db/unit-of-work.ts';

/**
 * @param tx the unit of work, which holds the invoice's lock
 * @param id Stripe's id of the invoice
 * @returns its row; an empty one when nothing was known of it
 */
export function invoiceOf({ rows }: Unit, id: string): Invoice {
  const known = rows.invoices.get(id);
  if (known) return known;
  const invoice = {
    id,
    subscriptionId: null,
    first: false,
    positive: false,
    paidAt: null,
    failedAt: null,
  };
  rows.invoices.set(id, invoice);
  return invoice;
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

function put({ payments }: Unit['rows'], payment: Payment): Payment {
  payments.set(payment.id, payment);
  return payment;
}
