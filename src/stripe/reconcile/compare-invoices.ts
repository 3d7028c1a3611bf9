import type { Invoice, Subscription } from '../../db/generated/client.ts';
import { onInvoicePaid, onInvoiceUnpaid, readInvoice } from '../objects/invoice.ts';
import type { InvoiceFacts } from '../objects/invoice.ts';
import { byId, compareAll, fixBy } from './compare.ts';
import type { Finding } from './compare.ts';
import type { Comparison, ReconcileContext } from './reconcile-context.ts';
import { formatValue } from './report.ts';

/** Our rows for a page of Stripe's invoices. */
interface Known {
  invoices: ReadonlyMap<string, Invoice>;
  /** The subscriptions of the invoices that Stripe tries to collect again. */
  subscriptions: ReadonlyMap<string, Subscription>;
}

/**
 * Every invoice of a subscription: which were paid, which first invoices were zero or could not be collected, and when
 * Stripe tries to collect a failed payment again.
 */
export const compareInvoices: Comparison = (context) => {
  const { db, stripe } = context;
  const read = async (listed: readonly { id: string }[]): Promise<Known> => {
    const invoices = await db.invoice.findMany({ where: { id: { in: listed.map(({ id }) => id) } } });
    const tried = listed.map(readInvoice).filter((invoice) => nextAttemptOf(invoice) !== null);
    const ids = tried.flatMap(({ subscriptionId }) => subscriptionId ?? []);
    const subscriptions =
      ids.length === 0 ? [] : await db.subscription.findMany({ where: { id: { in: ids } } });
    return { invoices: byId(invoices), subscriptions: byId(subscriptions) };
  };
  return compareAll(context, {
    stage: 'invoices',
    list: (page) => stripe.invoices.list(page),
    read,
    differs: (invoice, known) => compare(context, invoice, known) !== null,
    examine: async (invoice) => compare(context, invoice, await read([invoice])),
  });
};

/** Statuses of an invoice that is unpaid after an attempt to collect it. */
const UNPAID = new Set(['open', 'uncollectible', 'void']);

/** When Stripe will try again to collect an invoice after a failed attempt; null when it will not. */
function nextAttemptOf({ status, attempted, nextAttemptAt }: InvoiceFacts): Date | null {
  return status === 'open' && attempted ? nextAttemptAt : null;
}

function compare(
  context: ReconcileContext,
  invoice: { id: string; created: number },
  { invoices, subscriptions }: Known,
): Finding | null {
  const said = readInvoice(invoice);
  if (said.testClock || said.subscriptionId === null || said.customerId === null) return null;
  const row = invoices.get(said.id);
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
  const next = nextAttemptOf(said);
  const known = subscriptions.get(said.subscriptionId)?.nextAttemptAt ?? null;
  const differences = [
    ...(failed && !row?.failedAt ? [{ ...object, field: 'payment', here: 'unknown', there: 'failed' }] : []),
    ...(next && (!known || next > known)
      ? [{ ...object, field: 'next attempt', here: formatValue(known), there: formatValue(next) }]
      : []),
  ];
  if (differences.length === 0) return null;
  return {
    differences,
    fix: fixBy(context, onInvoiceUnpaid, 'invoice.payment_failed', invoice, new Date(invoice.created * 1000)),
  };
}
