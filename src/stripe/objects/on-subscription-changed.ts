import { follow } from '../../access/follow.ts';
import { customerOf, noteCustomerKnown } from '../../access/customers.ts';
import { TERMINAL_STATUSES } from './snapshot-order.ts';
import { storeSnapshot } from '../../access/subscriptions.ts';
import type { StripeEvent } from './event.ts';
import { readSubscription } from './subscription.ts';
import type { Products, SubscriptionSnapshot } from './subscription.ts';
import { causeOf, ignored, OK } from './handler.ts';
import type { EventHandler } from './handler.ts';

/**
 * `customer.subscription.created`, `updated`, `deleted`, `paused` and `resumed`: each carries a whole snapshot of the
 * subscription, and all are handled alike.
 */
export const onSubscriptionChanged: EventHandler = (event, { products }) => {
  const snapshot = readSnapshot(event, products);
  const { id, customerId } = snapshot;
  if (customerId === null) return ignored('the subscription has no customer');
  return {
    wants: { customers: [customerId], subscriptions: [id] },
    apply: (tx, tieBreaker) => {
      const customer = customerOf(tx, customerId);
      noteCustomerKnown(tx, customer);
      const { current, changed, taught, onProof } = storeSnapshot(tx, customer, snapshot, event, tieBreaker);
      if (!current && !taught) return ignored('a later snapshot of the subscription is known');
      if (customer.userId && (changed || onProof)) follow(tx, customer.userId, causeOf(event), onProof);
      return OK;
    },
  };
};

function readSnapshot(event: StripeEvent, products: Products): SubscriptionSnapshot {
  const snapshot = readSubscription(event.object, products);
  const over =
    event.type === 'customer.subscription.deleted' && !TERMINAL_STATUSES.has(snapshot.state.status);
  return over ? { ...snapshot, state: { ...snapshot.state, status: 'canceled' } } : snapshot;
}
