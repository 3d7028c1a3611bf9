import type { Invoice } from '../db/generated/client.ts';

/** Of an invoice, what tells which one was paid first. */
type PaidInvoice = Pick<Invoice, 'id' | 'positive' | 'paidAt'>;

/**
 * A user's earliest positive invoice, the one that decides about a conversion (design: rule 9), of rows that are read
 * already; `isMoneyBack` asks the database for the same one.
 *
 * @param subscriptions all subscriptions of all of the user's customers, with their invoices
 * @returns the invoice and when it was paid; null when no money is known to have moved
 */
export function firstPaymentOf<I extends PaidInvoice>(
  subscriptions: readonly { invoices: readonly I[] }[],
): (I & { paidAt: Date }) | null {
  const [first] = subscriptions
    .flatMap(({ invoices }) => invoices)
    .filter((invoice): invoice is I & { paidAt: Date } => invoice.positive && invoice.paidAt !== null)
    .sort((a, b) => a.paidAt.getTime() - b.paidAt.getTime() || (a.id < b.id ? -1 : 1));
  return first ?? null;
}
