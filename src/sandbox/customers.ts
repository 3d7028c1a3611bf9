import { buildCustomer } from './build-objects.ts';
import { buildEvent, changedFrom } from './events.ts';
import type { Cause } from './events.ts';
import { newId } from './ids.ts';
import type { CardBehaviour, State } from './state.ts';
import { cancelNow, hasEnded, subscriptionsOf } from './subscriptions.ts';
import type { Customer, DeletedCustomer, StripeEvent } from './types.ts';

/** Stripe's own: https://docs.stripe.com/testing#cards */
const TEST_CARDS = ['Visa •••• 4242', 'Mastercard •••• 4444'] as const;

/** Creates a customer: https://docs.stripe.com/api/customers/create */
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
 * Updates a customer: https://docs.stripe.com/api/customers/update
 *
 * @returns no event when nothing changed
 */
export function changeCustomer(
  customer: Customer,
  changes: Partial<Pick<Customer, 'email' | 'name' | 'balance' | 'currency'>>,
  cause: Cause,
): StripeEvent[] {
  const before = structuredClone(customer);
  Object.assign(customer, changes);
  const changed = Object.keys(changedFrom(before, customer)).length > 0;
  return changed ? [buildEvent(cause, 'customer.updated', customer, before)] : [];
}

/**
 * Deletes a customer and cancels their subscriptions: https://docs.stripe.com/api/customers/delete
 *
 * @returns one event for each canceled subscription, then the customer's own
 */
export function deleteCustomer(state: State, customer: Customer, cause: Cause): StripeEvent[] {
  const events = subscriptionsOf(state, customer.id)
    .filter((subscription) => !hasEnded(subscription))
    .flatMap((subscription) => cancelNow(state, subscription, cause));
  const tombstone: DeletedCustomer = { id: customer.id, object: 'customer', deleted: true };
  state.customers.set(customer.id, tombstone);
  return [...events, buildEvent(cause, 'customer.deleted', customer)];
}

/** Sets whether the customer's card accepts later charges. */
export function setCard(state: State, customer: string, behaviour: CardBehaviour): void {
  state.cards.set(customer, { ...state.cards.get(customer), id: customer, behaviour });
}

/** Gives the customer the other test card, which works. */
export function changeCard(state: State, customer: Customer, cause: Cause): StripeEvent[] {
  const before = structuredClone(customer);
  state.cards.set(customer.id, {
    id: customer.id,
    behaviour: 'works',
    name: otherCard(state, customer.id),
  });
  customer.invoice_settings = { default_payment_method: newId('pm') };
  return [buildEvent(cause, 'customer.updated', customer, before)];
}

/** The name of the card that pays. */
export function cardName(state: State, customer: string): string {
  return state.cards.get(customer)?.name ?? TEST_CARDS[0];
}

/** The card that the customer can change to. */
export function otherCard(state: State, customer: string): string {
  return cardName(state, customer) === TEST_CARDS[0] ? TEST_CARDS[1] : TEST_CARDS[0];
}
