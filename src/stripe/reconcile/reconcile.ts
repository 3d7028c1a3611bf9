import { addSeconds, later } from '../../instants.ts';
import { compareCheckouts } from './compare-checkouts.ts';
import { compareCustomers, compareOpenCheckouts } from './compare-existence.ts';
import { compareInvoices } from './compare-invoices.ts';
import { compareDisputes, compareInvoicePayments, compareRefunds } from './compare-payments.ts';
import { compareSubscriptions } from './compare-subscriptions.ts';
import { handleMissingEvents } from './missing-events.ts';
import type { Comparison, ReconcileContext } from './reconcile-context.ts';
import type { ReconcileReport } from './report.ts';

/** In the order in which facts build on each other. */
const COMPARISONS: readonly Comparison[] = [
  compareOpenCheckouts,
  compareCheckouts,
  compareSubscriptions,
  // After subscriptions, so that one that ended with its customer keeps the end that Stripe names.
  compareCustomers,
  compareInvoices,
  compareInvoicePayments,
  compareRefunds,
  compareDisputes,
];

/**
 * Brings our rows in line with Stripe: first the events that we missed, which Stripe lists for 30 days, then every
 * object, which closes older gaps. Tier, credit and referrals follow from the facts as always. Safe to run beside a
 * server, to interrupt and to repeat.
 *
 * @param seconds how far to look back, s; null for events since the last run and for all objects
 * @throws StripeError when Stripe cannot be asked
 */
export async function reconcile(
  parts: Omit<ReconcileContext, 'since'>,
  seconds: number | null,
): Promise<ReconcileReport> {
  // Stripe refuses times before 1970.
  const from = seconds === null ? null : later(new Date(0), addSeconds(parts.now(), -seconds));
  const context = { ...parts, since: from };
  const { since, differences, ...events } = await handleMissingEvents(context, seconds);
  const report: ReconcileReport = { since, dryRun: context.dryRun, events, compared: 0, differences };
  for (const compare of COMPARISONS) {
    const found = await compare(context);
    report.compared += found.compared;
    // Not `push(...)`: there can be too many for one call.
    report.differences = report.differences.concat(found.differences);
  }
  return report;
}
