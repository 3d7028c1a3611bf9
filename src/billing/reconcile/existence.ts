import { inTransaction } from '../../db/transaction.ts';
import { addSeconds, DAY_SECONDS } from '../../instants.ts';
import { absenceOf, noteCustomerMissing } from '../missing.ts';
import type { Absence } from '../missing.ts';
import type { Comparison, ReconcileContext } from './context.ts';
import type { Difference } from './report.ts';

/** A checkout session is over after this long, and replaced when somebody wants it: https://docs.stripe.com/api/checkout/sessions/create#create_checkout_session-expires_at */
const SESSION_DAYS = 1;

/** In words: what Stripe says of an object that we keep, when it does not find it. */
export const WORDS_OF_ABSENCE: Readonly<Record<Absence, string>> = {
  gone: 'no: it was deleted there, or belongs to another Stripe account',
  'other-mode': 'only in the other mode: STRIPE_API_KEY is of another mode than this database',
};

/** Our users' customers, which Stripe may not know (any more): they are used for nothing new then, and nothing is ended. */
export const compareCustomers: Comparison = async (context) => {
  const { db, stripe, now, dryRun, progress } = context;
  const known = new Set<string>();
  for await (const { id } of stripe.customers.list({ limit: 100 })) known.add(id);
  const ours = await db.customer.findMany({
    where: { userId: { not: null }, deletedAt: null },
    orderBy: { id: 'asc' },
  });
  const differences: Difference[] = [];
  for (const { id, missingAt } of ours) {
    // Stripe lists none of a test clock, nor any that was made a moment ago: it is asked before it says no.
    const absence = known.has(id) ? null : await absenceOfOne(() => stripe.customers.retrieve(id));
    if (absence === 'gone' && !dryRun) await noteCustomerMissing(db, id, now());
    if (absence !== null) differences.push(unknown('customer', id, absence));
    else if (missingAt !== null) differences.push(await foundAgain(context, id));
  }
  progress({ stage: 'customers', done: ours.length, total: ours.length });
  return { compared: ours.length, differences };
};

/** Our open checkouts: one that Stripe does not know is forgotten, so that the next one is new. */
export const compareOpenCheckouts: Comparison = async ({ db, stripe, now, dryRun }) => {
  const ours = await db.checkout.findMany({
    where: { sessionId: { not: null }, createdAt: { gte: addSeconds(now(), -SESSION_DAYS * DAY_SECONDS) } },
    orderBy: { id: 'asc' },
  });
  const differences: Difference[] = [];
  for (const { id, sessionId } of ours) {
    const session = sessionId ?? '';
    const absence = await absenceOfOne(() => stripe.checkout.sessions.retrieve(session));
    if (absence === null) continue;
    const mended = absence === 'gone' && !dryRun;
    if (mended) await inTransaction(db, now(), (tx) => tx.checkout.deleteMany({ where: { id, sessionId } }));
    differences.push({ ...unknown('checkout session', session, absence), mended });
  }
  return { compared: ours.length, differences };
};

async function absenceOfOne(retrieve: () => Promise<unknown>): Promise<Absence | null> {
  try {
    await retrieve();
    return null;
  } catch (error) {
    const absence = absenceOf(error);
    if (absence === null) throw error;
    return absence;
  }
}

/**
 * @param object what kind of thing
 * @param id Stripe's id of it, which we keep
 * @param absence why Stripe did not find it
 * @returns the difference: a person has to see to it
 */
export function unknown(object: string, id: string, absence: Absence): Difference {
  const there = WORDS_OF_ABSENCE[absence];
  return { object, id, field: 'existence', here: 'yes', there, mended: false, problem: null };
}

async function foundAgain({ db, now, dryRun }: ReconcileContext, id: string): Promise<Difference> {
  if (!dryRun)
    await inTransaction(db, now(), (tx) => tx.customer.update({ where: { id }, data: { missingAt: null } }));
  const words = { field: 'existence', here: 'unknown to Stripe', there: 'yes' };
  return { object: 'customer', id, ...words, mended: !dryRun, problem: null };
}
