import { applyFacts } from '../apply-facts.ts';
import { lockCustomer } from '../facts/customers.ts';
import { ensureSubscription, refreshProof } from '../facts/subscriptions.ts';
import { linkCustomer } from '../link-customer.ts';
import { readCheckoutSession } from '../stripe-shapes/checkout-session.ts';
import { causeOf, ignored, OK } from './outcome.ts';
import type { EventHandler } from './outcome.ts';

/** What an ignored checkout says when its customer has an owner already; `doctor` looks for it. */
export const CLAIMED_BY_ANOTHER = 'the customer belongs to another user';

const OF_NOBODY = 'the checkout session names none of our users';

/**
 * `checkout.session.completed`, `async_payment_succeeded` and `async_payment_failed`: tells whose customer it is.
 * Linking applies all facts that waited for it. Also tells when the payment is, or was, still under way: then only a
 * paid invoice proves it.
 */
export const onCheckoutCompleted: EventHandler = async (tx, event, { clawbackDays, products }) => {
  const checkout = readCheckoutSession(event.object);
  if (checkout.customerId === null) return ignored('the checkout session has no customer');

  const users = await tx.user.findMany({
    where: { id: { in: checkout.userReferences }, deletedAt: null },
    select: { id: true },
  });
  const [user] = users;
  if (!user) return ignored(OF_NOBODY);
  if (users.length > 1) return ignored('the checkout session names two of our users');

  const customer = await lockCustomer(tx, checkout.customerId);
  if (!(await linkCustomer(tx, customer, user.id))) {
    // Without an owner it was the user who went, a moment ago.
    return ignored(customer.userId === null ? OF_NOBODY : CLAIMED_BY_ANOTHER);
  }

  if (checkout.subscriptionId && (checkout.unpaid || event.type !== 'checkout.session.completed')) {
    const id = checkout.subscriptionId;
    const subscription = await ensureSubscription(tx, id, customer.id, products);
    await tx.subscription.updateMany({ where: { id }, data: { checkoutUnpaid: true } });
    await refreshProof(tx, { ...subscription, checkoutUnpaid: true }, event.created);
  }
  await applyFacts(tx, user.id, causeOf(event), { onProof: true, clawbackDays });
  return OK;
};
