import type { Tx } from '../../db/transaction.ts';
import type { PaidInvoice } from '../stripe-shapes/invoice.ts';

/**
 * Locks an invoice's row until the transaction ends; one that is not known yet is inserted empty. Before the
 * customer's lock, always (design: rule 5).
 *
 * @param tx the open transaction
 * @param id Stripe's id of the invoice
 */
export async function lockInvoice(tx: Tx, id: string): Promise<void> {
  await tx.invoice.upsert({ where: { id }, create: { id }, update: { id } });
}

/**
 * Keeps what a paid invoice says. The caller holds its lock and its customer's, and the subscription's row exists.
 *
 * @param tx the open transaction
 * @param invoice the invoice
 * @param paidAt when it was paid, UTC
 */
export async function storePaidInvoice(tx: Tx, invoice: PaidInvoice, paidAt: Date): Promise<void> {
  const { id, subscriptionId, first, positive } = invoice;
  await tx.invoice.update({ where: { id }, data: { subscriptionId, first, positive, paidAt } });
}
