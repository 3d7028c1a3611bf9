import type { Invoice, Payment } from '../db/generated/client.ts';
import type { Unit } from '../db/unit-of-work.ts';

/** The invoice's row, created empty if nothing was known. The unit of work must hold the invoice's lock. */
export function ensureInvoice({ rows }: Unit, id: string): Invoice {
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
 * The payment's row, created empty if nothing was known. The unit of work must hold the payment's lock.
 *
 * @param id the payment intent's id, or the charge's if it has no payment intent
 */
export function ensurePayment({ rows }: Unit, id: string): Payment {
  const known = rows.payments.get(id);
  if (known) return known;
  return put(rows, { id, invoiceId: null, firstRefundedAt: null, refundedAt: null, refundFailedAt: null });
}

/** Stores which invoice a payment belongs to. The unit of work must hold the locks of both. */
export function storePaymentOfInvoice(tx: Unit, id: string, invoiceId: string): Payment {
  ensureInvoice(tx, invoiceId);
  const payment = ensurePayment(tx, id);
  return payment.invoiceId === invoiceId ? payment : put(tx.rows, { ...payment, invoiceId });
}

/** Whether a payment of this invoice has a known refund or dispute. */
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
