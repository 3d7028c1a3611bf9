import type { Customer } from '../db/generated/client.ts';
import type { Unit } from '../db/unit-of-work.ts';

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
