import type { Invoice } from '../db/generated/client.ts';

type PaidInvoice = Pick<Invoice, 'id' | 'positive' | 'paidAt'>;

/**
 * The earliest positive invoice, whose date is that of the first payment (design: rule 9).
 *
 * @returns null when no payment is known
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
