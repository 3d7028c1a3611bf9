import type { Stripe } from 'stripe';

import { inTransaction } from '../../db/transaction.ts';
import { addSeconds, DAY_SECONDS, wholeSeconds } from '../../instants.ts';
import { absenceOf, noteCustomerMissing } from '../missing.ts';
import type { Absence } from '../missing.ts';
import { onCustomerDeleted } from '../objects/customer.ts';
import { fix, fixBy, PAGE } from './compare.ts';
import type { Finding } from './compare.ts';
import type { Comparison, ReconcileContext } from './reconcile-context.ts';
import type { Difference } from './report.ts';

/**
 * Checkout sessions expire after this long:
 * https://docs.stripe.com/api/checkout/sessions/create#create_checkout_session-expires_at
 */
const SESSION_DAYS = 1;

const ABSENCE_TEXTS: Readonly<Record<Absence, string>> = {
  gone: 'no: it was deleted there, or belongs to another Stripe account',
  'other-mode': 'only in the other mode: STRIPE_API_KEY does not match the mode of this database',
};

/**
 * Compares the customers of our users with Stripe. A customer that Stripe does not know is marked as missing: new
 * sessions do not use it, and nothing ends. A deleted customer is handled like `customer.deleted`. A customer that is
 * found again loses its mark.
 */
export const compareCustomers: Comparison = async (context) => {
  const { db, stripe, now, dryRun, progress } = context;
  const known = new Set<string>();
  for await (const { id } of stripe.customers.list({ limit: PAGE })) known.add(id);
  const ours = await db.customer.findMany({
    where: { userId: { not: null }, deletedAt: null },
    orderBy: { id: 'asc' },
  });
  const differences: Difference[] = [];
  for (const { id, missingAt } of ours) {
    // The list omits customers of test clocks and very new ones, so ask before concluding that a customer is missing.
    const state = known.has(id) ? 'known' : await stateOfCustomer(stripe, id);
    if (state === 'gone' && !dryRun) await noteCustomerMissing(db, id, now());
    if (state === 'deleted') differences.push(...(await fix(context, deletion(context, id))));
    else if (state !== 'known') differences.push(unknownToStripe('customer', id, state));
    else if (missingAt !== null) differences.push(await foundAgain(context, id));
  }
  progress({ stage: 'customers', done: ours.length, total: ours.length });
  return { compared: ours.length, differences };
};

/** Open checkouts that Stripe does not know are deleted, so that the next one is created afresh. */
export const compareOpenCheckouts: Comparison = async ({ db, stripe, now, dryRun }) => {
  const ours = await db.checkout.findMany({
    where: { sessionId: { not: null }, createdAt: { gte: addSeconds(now(), -SESSION_DAYS * DAY_SECONDS) } },
    orderBy: { id: 'asc' },
  });
  const differences: Difference[] = [];
  for (const { id, sessionId } of ours) {
    const session = sessionId ?? '';
    const state = await stateOf(() =>
      stripe.checkout.sessions.retrieve(session).then(() => 'known' as const),
    );
    if (state === 'known') continue;
    const fixed = state === 'gone' && !dryRun;
    if (fixed) await inTransaction(db, now(), (tx) => tx.checkout.deleteMany({ where: { id, sessionId } }));
    differences.push({ ...unknownToStripe('checkout session', session, state), fixed });
  }
  return { compared: ours.length, differences };
};

/** Stripe still answers for a deleted customer. */
async function stateOfCustomer(stripe: Stripe, id: string): Promise<'known' | 'deleted' | Absence> {
  return stateOf(async () => ((await stripe.customers.retrieve(id)).deleted === true ? 'deleted' : 'known'));
}

/** The event never arrived: handle it as if it arrived now. */
function deletion(context: ReconcileContext, id: string): Finding {
  return {
    differences: [{ object: 'customer', id, field: 'deleted', here: 'no', there: 'yes' }],
    fix: fixBy(context, onCustomerDeleted, 'customer.deleted', { id }, wholeSeconds(context.now())),
  };
}

async function stateOf<State>(ask: () => Promise<State>): Promise<State | Absence> {
  try {
    return await ask();
  } catch (error) {
    const absence = absenceOf(error);
    if (absence === null) throw error;
    return absence;
  }
}

/**
 * Reports that Stripe does not know an object that we store. `fixed` is false; the caller may set it.
 *
 * @param object the kind of object
 */
export function unknownToStripe(object: string, id: string, absence: Absence): Difference {
  const there = ABSENCE_TEXTS[absence];
  return { object, id, field: 'existence', here: 'yes', there, fixed: false, problem: null };
}

async function foundAgain({ db, now, dryRun }: ReconcileContext, id: string): Promise<Difference> {
  if (!dryRun)
    await inTransaction(db, now(), (tx) => tx.customer.update({ where: { id }, data: { missingAt: null } }));
  const words = { field: 'existence', here: 'marked as missing', there: 'yes' };
  return { object: 'customer', id, ...words, fixed: !dryRun, problem: null };
}
