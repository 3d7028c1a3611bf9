import type { Customer } from '../db/generated/client.ts';
import { lockUser } from '../db/lock-user.ts';
import type { Tx } from '../db/transaction.ts';

/**
 * Ties a Stripe customer to a user. The first link holds for ever (design: rule 6).
 *
 * @param tx the open transaction
 * @param customer the locked customer
 * @param userId whose it is
 * @returns false when it belongs to another user, or the user is gone
 */
export async function linkCustomer(tx: Tx, customer: Customer, userId: string): Promise<boolean> {
  if (customer.userId !== null) return customer.userId === userId;
  // The user first: the foreign key would otherwise share-lock the row that applyFacts locks for itself.
  const user = await lockUser(tx, userId);
  if (!user || user.deletedAt) return false;
  await tx.customer.update({ where: { id: customer.id }, data: { userId } });
  return true;
}
