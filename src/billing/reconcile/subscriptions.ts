import type { Subscription } from '../../db/generated/client.ts';
import type { Db } from '../../db/transaction.ts';
import { applyFacts } from '../apply-facts.ts';
import { lockCustomer } from '../facts/customers.ts';
import { TERMINAL_STATUSES } from '../facts/ordering.ts';
import { differences, storeFetched } from '../facts/subscriptions.ts';
import { absenceOf, noteSubscription } from '../missing.ts';
import { readSubscription } from '../stripe-shapes/subscription.ts';
import type { SubscriptionSnapshot } from '../stripe-shapes/subscription.ts';
import { causeNow, compareAll, mend } from './objects.ts';
import type { Finding } from './objects.ts';
import type { Comparison, ReconcileContext } from './context.ts';
import { unknown as unknownToStripe } from './existence.ts';
import { inWords } from './report.ts';
import type { Difference } from './report.ts';

/** Every subscription, whatever its status, and ours that are not in Stripe's list. */
export const compareSubscriptions: Comparison = async (context) => {
  const seen = new Set<string>();
  const found = await compareAll(
    context,
    'subscriptions',
    (page) => context.stripe.subscriptions.list({ ...page, status: 'all' }),
    async (subscription) => {
      seen.add(subscription.id);
      return compare(context, subscription);
    },
  );
  found.differences.push(...(await compareUnlisted(context, seen)));
  return found;
};

/** What Stripe listed may be older than a row that a webhook has changed since: before anything is mended it is asked anew. */
async function compare(context: ReconcileContext, listed: object): Promise<Finding | null> {
  const snapshot = readSubscription(listed);
  const row = await context.db.subscription.findUnique({ where: { id: snapshot.id } });
  return isOther(row, snapshot) ? askAnew(context, snapshot.id) : null;
}

/** Whether it is one that we keep, and our row says something else. */
function isOther(row: Subscription | null, snapshot: SubscriptionSnapshot): boolean {
  if (snapshot.testClock || snapshot.customerId === null) return false;
  if (row?.needsReconcile === true || (row?.missingAt ?? null) !== null) return true;
  return differences(row, snapshot).length > 0;
}

async function askAnew({ db, stripe, events }: ReconcileContext, id: string): Promise<Finding | null> {
  // The row first: only if it is still the same afterwards is the answer newer than it.
  const row = await db.subscription.findUnique({ where: { id } });
  const snapshot = readSubscription(await stripe.subscriptions.retrieve(id));
  const { customerId } = snapshot;
  if (customerId === null || !isOther(row, snapshot)) return null;

  const subscription = { object: 'subscription', id };
  const unknown = { ...subscription, field: 'status', here: 'unknown', there: snapshot.state.status };
  const missing = { ...subscription, field: 'existence', here: 'unknown to Stripe', there: 'yes' };
  const undecided = { ...subscription, field: 'order of its events', here: 'undecided', there: 'as fetched' };
  return {
    differences: [
      ...(row?.status ? [] : [unknown]),
      ...(row?.needsReconcile ? [undecided] : []),
      ...(row?.missingAt ? [missing] : []),
      ...(row?.status ? differences(row, snapshot) : []).map(({ field, here, there }) => ({
        ...subscription,
        field,
        here: inWords(here),
        there: inWords(there),
      })),
    ],
    mend: async (tx) => {
      const customer = await lockCustomer(tx, customerId);
      const stored = await storeFetched(tx, customer, snapshot, row);
      if (!stored) return false;
      if (customer.userId && stored.statusChanged) {
        const { clawbackDays } = events;
        await applyFacts(tx, customer.userId, causeNow(tx, stored.endedAt), { onProof: false, clawbackDays });
      }
      return true;
    },
  };
}

/** Of an interrupted run the list is not whole, and Stripe does not list those of test clocks: they are asked for. */
async function compareUnlisted(context: ReconcileContext, seen: ReadonlySet<string>): Promise<Difference[]> {
  const { db, now, dryRun } = context;
  const found: Difference[] = [];
  for (const row of await liveSubscriptions(db)) {
    if (seen.has(row.id)) continue;
    try {
      const finding = await askAnew(context, row.id);
      if (finding) found.push(...(await mend(context, finding)));
    } catch (error) {
      const absence = absenceOf(error);
      if (absence === null) throw error;
      if (absence === 'gone' && !dryRun) await noteSubscription(db, row, false, now());
      found.push(unknownToStripe('subscription', row.id, absence));
    }
  }
  return found;
}

async function liveSubscriptions(db: Db): Promise<Pick<Subscription, 'id' | 'customerId' | 'missingAt'>[]> {
  return db.subscription.findMany({
    where: { status: { notIn: [...TERMINAL_STATUSES] } },
    select: { id: true, customerId: true, missingAt: true },
  });
}
