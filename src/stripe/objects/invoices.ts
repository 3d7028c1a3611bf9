import type { Invoice } from '../../db/generated/client.ts';
import type { Unit } from '../../db/unit-of-work.ts';
import type { InvoiceFacts } from './invoice.ts';

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
 * Keeps what a paid invoice says.
 *
 * @param tx the unit of work, which holds the invoice's lock
 * @param invoice the invoice
 * @param paidAt when it was paid, UTC
 */
export function storePaidInvoice(tx: Unit, invoice: InvoiceFacts, paidAt: Date): void {
  const { id, subscriptionId, first, positive } = invoice;
  tx.rows.invoices.set(id, { ...invoiceOf(tx, id), subscriptionId, first, positive, paidAt });
}

/**
 * Keeps that a try to collect a subscription's first invoice failed.
 *
 * @param tx the unit of work, which holds the invoice's lock
 * @param invoice the invoice
 * @param failedAt when, UTC; of several tries the earliest is kept
 */
export function storeFailedInvoice(tx: Unit, invoice: InvoiceFacts, failedAt: Date): void {
  const { id, subscriptionId, first } = invoice;
  const known = invoiceOf(tx, id);
  if (known.failedAt && known.failedAt <= failedAt) return;
  tx.rows.invoices.set(id, { ...known, subscriptionId, first, failedAt });
}
