import { onCheckoutCompleted } from '../handlers/checkout-completed.ts';
import { readCheckoutSession } from '../stripe-shapes/checkout-session.ts';
import { compareAll, mendBy } from './objects.ts';
import type { Finding } from './objects.ts';
import type { Comparison, ReconcileContext } from './context.ts';

/** Completed checkouts: they tell whose customer it is, and whether a bank debit is under way. */
export const compareCheckouts: Comparison = (context) =>
  compareAll(
    context,
    'checkout sessions',
    (page) => context.stripe.checkout.sessions.list({ ...page, status: 'complete' }),
    (session) => compare(context, session),
  );

async function compare(
  context: ReconcileContext,
  session: { id: string; created: number },
): Promise<Finding | null> {
  const { customerId, subscriptionId, userReferences, unpaid } = readCheckoutSession(session);
  if (customerId === null) return null;
  const { db } = context;
  const [user, customer, subscription] = await Promise.all([
    db.user.findFirst({ where: { id: { in: userReferences }, deletedAt: null }, select: { id: true } }),
    db.customer.findUnique({ where: { id: customerId } }),
    subscriptionId === null ? null : db.subscription.findUnique({ where: { id: subscriptionId } }),
  ]);
  if (!user) return null;
  const owner = customer?.userId ?? null;
  const linked = owner !== null;
  const debitKnown = !unpaid || subscription?.checkoutUnpaid === true;
  // A customer who belongs to another user stays with them: `doctor` names it.
  if ((linked && debitKnown) || (linked && owner !== user.id)) return null;

  const object = { object: 'checkout session', id: session.id };
  return {
    differences: [
      ...(linked ? [] : [{ ...object, field: 'user of the customer', here: 'none', there: user.id }]),
      ...(debitKnown ? [] : [{ ...object, field: 'payment', here: 'done', there: 'under way' }]),
    ],
    mend: mendBy(
      context,
      onCheckoutCompleted,
      'checkout.session.completed',
      session,
      new Date(session.created * 1000),
    ),
  };
}
