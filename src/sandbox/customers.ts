import { buildEvent, changedFrom } from './events.ts';
import type { Cause } from './events.ts';
import { buildCustomer } from './objects.ts';
import type { CardBehaviour, State } from './state.ts';
import { cancelNow, hasEnded, subscriptionsOf } from './subscriptions.ts';
import type { Customer, DeletedCustomer, StripeEvent } from './types.ts';

/**
 * Makes a customer: https://docs.stripe.com/api/customers/create
 *
 * @param state what to change
 * @param given what the caller told about them
 * @param cause when, and who asked
 * @returns the customer, and the event
 */
export function createCustomer(
  state: State,
  given: Parameters<typeof buildCustomer>[1],
  cause: Cause,
): { customer: Customer; events: StripeEvent[] } {
  const customer = buildCustomer(cause.at, given);
  state.customers.set(customer.id, customer);
  return { customer, events: [buildEvent(cause, 'customer.created', customer)] };
}

/**
 * Changes what is known of a customer: https://docs.stripe.com/api/customers/update
 *
 * @param customer one that is not deleted
 * @param changes the new values
 * @param cause when, and who asked
 * @returns the event; none when all was so already
 */
export function changeCustomer(
  customer: Customer,
  changes: Partial<Pick<Customer, 'email' | 'name' | 'description' | 'metadata'>>,
  cause: Cause,
): StripeEvent[] {
  const before = structuredClone(customer);
  Object.assign(customer, changes);
  const changed = Object.keys(changedFrom(before, customer)).length > 0;
  return changed ? [buildEvent(cause, 'customer.updated', customer, before)] : [];
}

/**
 * Deletes a customer and ends what they subscribed to: https://docs.stripe.com/api/customers/delete
 *
 * @param state what to change
 * @param customer one that is not deleted
 * @param cause when, and who asked
 * @returns the events: one for each subscription that ended, then the customer's own
 */
export function deleteCustomer(state: State, customer: Customer, cause: Cause): StripeEvent[] {
  const events = subscriptionsOf(state, customer.id)
    .filter((subscription) => !hasEnded(subscription))
    .flatMap((subscription) => cancelNow(state, subscription, cause));
  const tombstone: DeletedCustomer = { id: customer.id, object: 'customer', deleted: true };
  state.customers.set(customer.id, tombstone);
  return [...events, buildEvent(cause, 'customer.deleted', customer)];
}

/**
 * Decides how a customer's card takes the charges that come later.
 *
 * @param state what to change
 * @param customer a customer's id
 * @param behaviour how; `none` takes the card away
 */
export function setCard(state: State, customer: string, behaviour: CardBehaviour): void {
  state.cards.set(customer, { id: customer, behaviour });
}
