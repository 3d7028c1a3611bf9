import { addSeconds } from '../../instants.ts';
import { compareCheckouts } from './checkouts.ts';
import type { Comparison, ReconcileContext } from './context.ts';
import { compareCustomers, compareOpenCheckouts } from './existence.ts';
import { compareInvoices } from './invoices.ts';
import { handleMissingEvents } from './missing-events.ts';
import { compareDisputes, compareInvoicePayments, compareRefunds } from './payments.ts';
import type { ReconcileReport } from './report.ts';
import { compareSubscriptions } from './subscriptions.ts';

/** In the order in which facts build on each other. */
const COMPARISONS: readonly Comparison[] = [
  compareOpenCheckouts,
  compareCheckouts,
  compareSubscriptions,
  // After these: what the deletion of a customer ended has its own instant.
  compareCustomers,
  compareInvoices,
  compareInvoicePayments,
  compareRefunds,
  compareDisputes,
];

/**
 * Brings our rows back to what Stripe says: first the events that we missed, which Stripe lists for 30 days, then every
 * object, so that older gaps close as well. Tier, credit and referrals follow from the facts as they always do. Safe to
 * run while the server runs, to interrupt, and to run again.
 *
 * @param parts Stripe, the database, the clock, and whether to change anything
 * @param seconds how far to look back, s; null: for events to where the last run came, for objects to the first one
 * @returns what differed, and what was mended
 * @throws StripeError when Stripe cannot be asked; an error that `isRefused` when the database was too busy
 */
export async function reconcile(
  parts: Omit<ReconcileContext, 'since'>,
  seconds: number | null,
): Promise<ReconcileReport> {
  const context = { ...parts, since: seconds === null ? null : addSeconds(parts.now(), -seconds) };
  const { since, differences, ...events } = await handleMissingEvents(context, seconds);
  const report: ReconcileReport = { since, dryRun: context.dryRun, events, compared: 0, differences };
  for (const compare of COMPARISONS) {
    const found = await compare(context);
    report.compared += found.compared;
    report.differences.push(...found.differences);
  }
  return report;
}
