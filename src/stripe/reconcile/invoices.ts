import type { Invoice } from '../../db/generated/client.ts';
import { onInvoicePaid, onInvoiceUnpaid, readInvoice } from '../objects/invoice.ts';
import { byId, compareAll, fixBy } from './objects.ts';
import type { Finding } from './objects.ts';
import type { Comparison, ReconcileContext } from './context.ts';
import { formatValue } from './report.ts';

/** Every invoice of a subscription: which were paid, and which first invoices were zero or could not be collected. */
export const compareInvoices: Comparison = (context) => {
  const { db, stripe } = context;
  const read = async (invoices: readonly { id: string }[]) =>
    byId(await db.invoice.findMany({ where: { id: { in: invoices.map(({ id }) => id) } } }));
  return compareAll(context, {
    stage: 'invoices',
    list: (page) => stripe.invoices.list(page),
    read,
    differs: (invoice, rows) => compare(context, invoice, rows) !== null,
    examine: async (invoice) => compare(context, invoice, await read([invoice])),
  });
};

/** Statuses of an invoice that is unpaid after an attempt to collect it. */
const UNPAID = new Set(['open', 'uncollectible', 'void']);

function compare(
  context: ReconcileContext,
  invoice: { id: string; created: number },
  rows: ReadonlyMap<string, Invoice>,
): Finding | null {
  const said = readInvoice(invoice);
  if (said.testClock || said.subscriptionId === null || said.customerId === null) return null;
  const row = rows.get(said.id);
  const object = { object: 'invoice', id: said.id };

  if (said.status === 'paid') {
    const paidAt = said.paidAt ?? new Date(invoice.created * 1000);
    const there = { subscriptionId: said.subscriptionId, first: said.first, positive: said.positive };
    const differing = row?.paidAt
      ? Object.entries(there).filter(([field, value]) => row[field as keyof typeof there] !== value)
      : [];
    const differences = [
      ...(row?.paidAt ? [] : [{ ...object, field: 'paid', here: 'unknown', there: formatValue(paidAt) }]),
      ...differing.map(([field, value]) => ({
        ...object,
        field,
        here: formatValue(row?.[field as keyof typeof there]),
        there: formatValue(value),
      })),
    ];
    if (differences.length === 0) return null;
    return { differences, fix: fixBy(context, onInvoicePaid, 'invoice.paid', invoice, paidAt) };
  }

  const failed = said.first && said.attempted && UNPAID.has(said.status ?? '');
  if (!failed || row?.failedAt) return null;
  return {
    differences: [{ ...object, field: 'payment', here: 'not tried', there: 'failed' }],
    fix: fixBy(context, onInvoiceUnpaid, 'invoice.payment_failed', invoice, new Date(invoice.created * 1000)),
  };
}
