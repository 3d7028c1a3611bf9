import { applyFacts } from '../apply-facts.ts';
import { lockCustomer, noteCustomerKnown } from '../facts/customers.ts';
import { TERMINAL_STATUSES } from '../facts/ordering.ts';
import { storeSnapshot } from '../facts/subscriptions.ts';
import type { StripeEvent } from '../stripe-shapes/event.ts';
import { readSubscription } from '../stripe-shapes/subscription.ts';
import type { Products, SubscriptionSnapshot } from '../stripe-shapes/subscription.ts';
import { causeOf, ignored, OK } from './outcome.ts';
import type { EventHandler } from './outcome.ts';

/**
 * `customer.subscription.created`, `updated`, `deleted`, `paused` and `resumed`: each carries a whole snapshot of the
 * subscription, and all are handled alike.
 */
export const onSubscriptionChanged: EventHandler = async (tx, event, context) => {
  const { tieBreaker, clawbackDays, products } = context;
  const snapshot = readSnapshot(event, products);
  if (snapshot.customerId === null) return ignored('the subscription has no customer');

  const customer = await lockCustomer(tx, snapshot.customerId);
  await noteCustomerKnown(tx, customer);
  const stored = await storeSnapshot(tx, customer, snapshot, event, products, tieBreaker);
  if (!stored.current && !stored.taught) return ignored('a later snapshot of the subscription is known');

  const { onProof } = stored;
  if (customer.userId && (stored.changed || onProof)) {
    await applyFacts(tx, customer.userId, causeOf(event), { onProof, clawbackDays });
  }
  return OK;
};

function readSnapshot(event: StripeEvent, products: Products): SubscriptionSnapshot {
  const snapshot = readSubscription(event.object, products);
  const over =
    event.type === 'customer.subscription.deleted' && !TERMINAL_STATUSES.has(snapshot.state.status);
  return over ? { ...snapshot, state: { ...snapshot.state, status: 'canceled' } } : snapshot;
}
