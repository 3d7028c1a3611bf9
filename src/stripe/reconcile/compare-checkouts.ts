import type { Stripe } from 'stripe';

import type { Customer, Subscription } from '../../db/generated/client.ts';
import type { Db } from '../../db/transaction.ts';
import { onCheckoutCompleted, readCheckoutSession } from '../objects/checkout-session.ts';
import { byId, compareAll, fixBy } from './compare.ts';
import type { Finding } from './compare.ts';
import type { Comparison, ReconcileContext } from './reconcile-context.ts';

/** Completed checkouts: they show which user a customer belongs to, and whether a bank debit is pending. */
export const compareCheckouts: Comparison = (context) => {
  const { db, stripe } = context;
  return compareAll<Stripe.Checkout.Session, Rows>(context, {
    stage: 'checkout sessions',
    list: (page) => stripe.checkout.sessions.list({ ...page, status: 'complete' }),
    read: (sessions) => read(db, sessions),
    differs: (session, rows) => compare(context, session, rows) !== null,
    examine: async (session) => compare(context, session, await read(db, [session])),
  });
};

/** Our rows for the ids that the sessions name. */
interface Rows {
  users: ReadonlyMap<string, { id: string }>;
  customers: ReadonlyMap<string, Customer>;
  subscriptions: ReadonlyMap<string, Subscription>;
}

async function read(db: Db, sessions: readonly object[]): Promise<Rows> {
  const said = sessions.map(readCheckoutSession);
  const named = (ids: (string | null)[]) => ({ in: ids.filter((id) => id !== null) });
  const [users, customers, subscriptions] = await Promise.all([
    db.user.findMany({
      where: { id: named(said.flatMap(({ userReferences }) => userReferences)), deletedAt: null },
      select: { id: true },
    }),
    db.customer.findMany({ where: { id: named(said.map(({ customerId }) => customerId)) } }),
    db.subscription.findMany({ where: { id: named(said.map(({ subscriptionId }) => subscriptionId)) } }),
  ]);
  return { users: byId(users), customers: byId(customers), subscriptions: byId(subscriptions) };
}

function compare(
  context: ReconcileContext,
  session: { id: string; created: number },
  rows: Rows,
): Finding | null {
  const { customerId, subscriptionId, userReferences, unpaid } = readCheckoutSession(session);
  if (customerId === null) return null;
  const [userId, ...others] = userReferences.filter((id) => rows.users.has(id));
  // The handler ignores a session that names none of our users, or two.
  if (userId === undefined || others.length > 0) return null;
  const owner = rows.customers.get(customerId)?.userId ?? null;
  const linked = owner !== null;
  const debitKnown =
    !unpaid || subscriptionId === null || rows.subscriptions.get(subscriptionId)?.checkoutUnpaid === true;
  // A customer that belongs to another user stays with them; `doctor` reports it.
  if ((linked && debitKnown) || (linked && owner !== userId)) return null;

  const object = { object: 'checkout session', id: session.id };
  return {
    differences: [
      ...(linked ? [] : [{ ...object, field: 'user of the customer', here: 'none', there: userId }]),
      ...(debitKnown ? [] : [{ ...object, field: 'payment', here: 'done', there: 'pending' }]),
    ],
    fix: fixBy(
      context,
      onCheckoutCompleted,
      'checkout.session.completed',
      session,
      new Date(session.created * 1000),
    ),
  };
}
