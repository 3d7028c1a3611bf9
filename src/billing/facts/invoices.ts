import type { Invoice } from '../../db/generated/client.ts';
import type { Tx } from '../../db/transaction.ts';
import type { InvoiceFacts } from '../stripe-shapes/invoice.ts';

/**
 * Locks an invoice's row until the transaction ends; one that is not known yet is inserted empty. After the payment's
 * lock and before the customer's, always (design: rule 5).
 *
 * @param tx the open transaction
 * @param id Stripe's id of the invoice
 * @returns the row as it is under the lock
 */
export async function lockInvoice(tx: Tx, id: string): Promise<Invoice> {
  const [invoice] = await tx.$queryRaw<[Invoice]>`
    INSERT INTO "Invoice" ("id") VALUES (${id})
    ON CONFLICT ("id") DO UPDATE SET "first" = "Invoice"."first" RETURNING *`;
  return invoice;
}

/**
 * Keeps what a paid invoice says, and locks its row. Its subscription's row may follow in the same transaction.
 *
 * @param tx the open transaction
 * @param invoice the invoice
 * @param paidAt when it was paid, UTC
 */
export async function storePaidInvoice(tx: Tx, invoice: InvoiceFacts, paidAt: Date): Promise<void> {
  const { id, subscriptionId, first, positive } = invoice;
  await tx.$executeRaw`
    INSERT INTO "Invoice" ("id", "subscriptionId", "first", "positive", "paidAt")
    VALUES (${id}, ${subscriptionId}, ${first}, ${positive}, ${paidAt})
    ON CONFLICT ("id") DO UPDATE SET "subscriptionId" = excluded."subscriptionId", "first" = excluded."first",
      "positive" = excluded."positive", "paidAt" = excluded."paidAt"`;
}

/**
 * Keeps that a try to collect a subscription's first invoice failed, and locks its row. Its subscription's row may
 * follow in the same transaction.
 *
 * @param tx the open transaction
 * @param invoice the invoice
 * @param failedAt when, UTC; of several tries the earliest is kept
 */
export async function storeFailedInvoice(tx: Tx, invoice: InvoiceFacts, failedAt: Date): Promise<void> {
  const { id, subscriptionId, first } = invoice;
  const known = await lockInvoice(tx, id);
  if (known.failedAt && known.failedAt <= failedAt) return;
  await tx.invoice.update({ where: { id }, data: { subscriptionId, first, failedAt } });
}
