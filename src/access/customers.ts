import type { Customer } from '../db/generated/client.ts';
import type { Unit } from '../db/unit-of-work.ts';
import { isLive } from './live.ts';
import { endSubscriptions } from './subscriptions.ts';

/** The columns of a customer that no reset link has retired. */
export const NOT_RETIRED = {
  retiredAt: null,
  balanceTo: null,
  balanceMovedAt: null,
  balanceTries: 0,
} as const;

/** Whether Stripe still sends receipts for a customer: a retired one is in use only while it has a live plan. */
export function isInUse({
  retiredAt,
  subscriptions,
}: Pick<Customer, 'retiredAt'> & { subscriptions: readonly Parameters<typeof isLive>[0][] }): boolean {
  return retiredAt === null || subscriptions.some(isLive);
}

/** The customer's row, created empty if nothing was known. The unit of work must hold the customer's lock. */
export function ensureCustomerRow({ rows }: Unit, id: string): Customer {
  const known = rows.customers.get(id);
  if (known) return known;
  const customer = {
    id,
    userId: null,
    linkedAt: null,
    deletedAt: null,
    missingAt: null,
    ours: false,
    ...NOT_RETIRED,
  };
  rows.customers.set(id, customer);
  return customer;
}

/** Clears the mark that Stripe does not know the customer, because Stripe has just mentioned it. */
export function noteCustomerKnown({ rows }: Unit, customer: Customer): void {
  if (customer.missingAt !== null) rows.customers.set(customer.id, { ...customer, missingAt: null });
}

/** Records that a customer was deleted at Stripe. Its subscriptions end for good; the link to its user stays. */
export function endCustomer(tx: Unit, customer: Customer, deletedAt: Date): void {
  tx.rows.customers.set(customer.id, { ...customer, deletedAt });
  endSubscriptions(tx, customer.id, deletedAt);
}

/**
 * Links a Stripe customer to a user. The first link stays; only `relink` moves a customer (design: rule 6). The unit of
 * work must hold both locks.
 *
 * @returns false when the customer belongs to another user, or the user was deleted
 */
export function linkCustomer({ rows, now }: Unit, customer: Customer, userId: string): boolean {
  if (customer.userId !== null) return customer.userId === userId;
  const user = rows.users.get(userId);
  if (!user || user.deletedAt) return false;
  rows.customers.set(customer.id, { ...customer, userId, linkedAt: now });
  return true;
}
