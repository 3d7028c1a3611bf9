import { follow } from '../../access/follow.ts';
import { customerOf } from '../../access/customers.ts';
import { ensureSubscription, refreshProof } from '../../access/subscriptions.ts';
import { linkCustomer } from '../../access/link-customer.ts';
import { readCheckoutSession } from './checkout-session.ts';
import { causeOf, ignored, OK } from './handler.ts';
import type { EventHandler } from './handler.ts';

/** What an ignored checkout says when its customer has an owner already; `doctor` looks for it. */
export const CLAIMED_BY_ANOTHER = 'the customer belongs to another user';

const OF_NOBODY = 'the checkout session names none of our users';

/**
 * `checkout.session.completed`, `async_payment_succeeded` and `async_payment_failed`: tells whose customer it is.
 * Linking applies all facts that waited for it. Also tells when the payment is, or was, still under way: then only a
 * paid invoice proves it.
 */
export const onCheckoutCompleted: EventHandler = (event) => {
  const { customerId, subscriptionId, userReferences, unpaid } = readCheckoutSession(event.object);
  if (customerId === null) return ignored('the checkout session has no customer');
  return {
    wants: {
      users: userReferences,
      customers: [customerId],
      subscriptions: subscriptionId === null ? [] : [subscriptionId],
    },
    apply: (tx) => {
      const users = userReferences.flatMap((id) => tx.rows.users.get(id) ?? []);
      const [user, ...others] = users.filter(({ deletedAt }) => deletedAt === null);
      if (!user) return ignored(OF_NOBODY);
      if (others.length > 0) return ignored('the checkout session names two of our users');

      const customer = customerOf(tx, customerId);
      if (!linkCustomer(tx, customer, user.id)) return ignored(CLAIMED_BY_ANOTHER);

      if (subscriptionId !== null && (unpaid || event.type !== 'checkout.session.completed')) {
        const subscription = ensureSubscription(tx, subscriptionId, customerId);
        const underWay = { ...subscription, checkoutUnpaid: true };
        tx.rows.subscriptions.set(subscriptionId, underWay);
        refreshProof(tx, underWay, event.created);
      }
      follow(tx, user.id, causeOf(event), true);
      return OK;
    },
  };
};
