import type { Stripe } from 'stripe';

import { ensureCustomerRow } from '../../access/customers.ts';
import { follow } from '../../access/follow.ts';
import { TERMINAL_STATUSES } from '../../access/live.ts';
import type { Subscription } from '../../db/generated/client.ts';
import type { Db } from '../../db/transaction.ts';
import { inUnit } from '../../db/unit-of-work.ts';
import { absenceOf, noteWhetherKnown } from '../missing.ts';
import { readSubscription } from '../objects/subscription-shape.ts';
import type { SubscriptionSnapshot } from '../objects/subscription-shape.ts';
import { differences, storeFetched } from '../objects/subscription.ts';
import { unknownToStripe } from './compare-existence.ts';
import { byId, reconcileCause, compareAll, fix } from './compare.ts';
import type { Finding, Page } from './compare.ts';
import type { Comparison, ReconcileContext } from './reconcile-context.ts';
import { formatValue } from './report.ts';
import type { Difference } from './report.ts';

/**
 * Every subscription that Stripe lists, of any status, and those of ours that it does not list and that have not ended as
 * far as we know. A bounded run still compares all that are not over, whatever their age.
 */
export const compareSubscriptions: Comparison = async (context) => {
  const { subscriptions } = context.stripe;
  const seen = new Set<string>();
  const lists: [stage: string, since: Date | null, list: (page: Page) => Promise<Listed>][] =
    context.since === null
      ? [['subscriptions', null, (page) => subscriptions.list({ ...page, status: 'all' })]]
      : [
          ['subscriptions that have not ended', null, (page) => subscriptions.list(page)],
          ['ended subscriptions', context.since, (page) => subscriptions.list({ ...page, status: 'ended' })],
        ];
  const total: Awaited<ReturnType<Comparison>> = { compared: 0, differences: [] };
  for (const [stage, since, list] of lists) {
    const found = await compareList({ ...context, since }, stage, list, seen);
    total.compared += found.compared;
    // Not `push(...)`: there can be too many for one call.
    total.differences = total.differences.concat(found.differences);
  }
  return { ...total, differences: total.differences.concat(await compareUnlisted(context, seen)) };
};

type Listed = Stripe.ApiList<Stripe.Subscription>;

/**
 * The list may be older than a row that a webhook has changed since, so Stripe is asked again before anything is
 * fixed.
 */
function compareList(
  context: ReconcileContext,
  stage: string,
  list: (page: Page) => Promise<Listed>,
  seen: Set<string>,
): ReturnType<Comparison> {
  const { db, events } = context;
  return compareAll(context, {
    stage,
    list,
    read: async (listed) => {
      const ids = listed.map(({ id }) => id);
      for (const id of ids) seen.add(id);
      return byId(await db.subscription.findMany({ where: { id: { in: ids } } }));
    },
    differs: (listed, rows) =>
      differsFromRow(rows.get(listed.id) ?? null, readSubscription(listed, events.programme.products)),
    examine: ({ id }) => fetchAgain(context, id),
  });
}

/** Whether we keep this subscription and our row differs. */
function differsFromRow(row: Subscription | null, snapshot: SubscriptionSnapshot): boolean {
  if (snapshot.testClock || snapshot.customerId === null) return false;
  if (row?.needsReconcile === true || (row?.missingAt ?? null) !== null) return true;
  return differences(row, snapshot).length > 0;
}

async function fetchAgain({ db, stripe, events }: ReconcileContext, id: string): Promise<Finding | null> {
  // Read the row first: only if it is unchanged afterwards is the answer newer.
  const row = await db.subscription.findUnique({ where: { id } });
  const snapshot = readSubscription(await stripe.subscriptions.retrieve(id), events.programme.products);
  const { customerId } = snapshot;
  if (customerId === null || !differsFromRow(row, snapshot)) return null;

  const subscription = { object: 'subscription', id };
  const unknown = { ...subscription, field: 'status', here: 'unknown', there: snapshot.state.status };
  const missing = { ...subscription, field: 'existence', here: 'marked as missing', there: 'yes' };
  const undecided = { ...subscription, field: 'order of its events', here: 'undecided', there: 'decided' };
  return {
    differences: [
      ...(row?.status ? [] : [unknown]),
      ...(row?.needsReconcile ? [undecided] : []),
      ...(row?.missingAt ? [missing] : []),
      ...(row?.status ? differences(row, snapshot) : []).map(({ field, here, there }) => ({
        ...subscription,
        field,
        here: formatValue(here),
        there: formatValue(there),
      })),
    ],
    fix: (tx) =>
      inUnit(tx, events.programme, { customers: [customerId], subscriptions: [id] }, (unit) => {
        const customer = ensureCustomerRow(unit, customerId);
        const stored = storeFetched(unit, customer, snapshot, row);
        if (!stored) return false;
        const { changed, proofChanged } = stored;
        if (customer.userId && (changed || proofChanged))
          follow(unit, customer.userId, reconcileCause(), proofChanged);
        return true;
      }),
  };
}

/**
 * Fetches, one by one, our subscriptions that have not ended and were not listed: with a bound, old ones that ended at
 * Stripe are not listed; a resumed run does not see the whole list; and Stripe does not list those of test clocks.
 */
async function compareUnlisted(context: ReconcileContext, seen: ReadonlySet<string>): Promise<Difference[]> {
  const { db, now, dryRun } = context;
  const found: Difference[] = [];
  for (const row of await subscriptionsNotEnded(db)) {
    if (seen.has(row.id)) continue;
    try {
      const finding = await fetchAgain(context, row.id);
      if (finding) found.push(...(await fix(context, finding)));
    } catch (error) {
      const absence = absenceOf(error);
      if (absence === null) throw error;
      if (absence === 'gone' && !dryRun) await noteWhetherKnown(db, row, false, now());
      found.push(unknownToStripe('subscription', row.id, absence));
    }
  }
  return found;
}

async function subscriptionsNotEnded(
  db: Db,
): Promise<Pick<Subscription, 'id' | 'customerId' | 'missingAt'>[]> {
  return db.subscription.findMany({
    where: { status: { notIn: [...TERMINAL_STATUSES] } },
    select: { id: true, customerId: true, missingAt: true },
  });
}
