import type { Customer } from '../db/generated/client.ts';
import type { Unit } from '../db/unit-of-work.ts';
import { endSubscriptions } from './subscriptions.ts';

/**
 * @param tx the unit of work, which holds the customer's lock
 * @param id Stripe's id of the customer
 * @returns its row; an empty one when nothing was known of it
 */
export function customerOf({ rows }: Unit, id: string): Customer {
  const known = rows.customers.get(id);
  if (known) return known;
  const customer = { id, userId: null, linkedAt: null, deletedAt: null, missingAt: null };
  rows.customers.set(id, customer);
  return customer;
}

/**
 * Takes back that Stripe does not know a customer: it has just told of it.
 *
 * @param tx the unit of work, which holds the customer's lock
 * @param customer the customer
 */
export function noteCustomerKnown({ rows }: Unit, customer: Customer): void {
  if (customer.missingAt !== null) rows.customers.set(customer.id, { ...customer, missingAt: null });
}

/**
 * Keeps that a customer was deleted at Stripe: its subscriptions are over for good, the link to its user stays.
 *
 * @param tx the unit of work, which holds the customer's lock
 * @param customer the customer
 * @param deletedAt when, UTC
 */
export function endCustomer(tx: Unit, customer: Customer, deletedAt: Date): void {
  tx.rows.customers.set(customer.id, { ...customer, deletedAt });
  endSubscriptions(tx, customer.id, deletedAt);
}

/**
 * Ties a Stripe customer to a user. The first link holds for ever (design: rule 6).
 *
 * @param tx the unit of work, which holds the locks of both
 * @param customer the customer
 * @param userId whose it is
 * @returns false when it belongs to another user, or the user is gone
 */
export function linkCustomer({ rows, now }: Unit, customer: Customer, userId: string): boolean {
  if (customer.userId !== null) return customer.userId === userId;
  const user = rows.users.get(userId);
  if (!user || user.deletedAt) return false;
  rows.customers.set(customer.id, { ...customer, userId, linkedAt: now });
  return true;
}
