import type { Stripe } from 'stripe';

import { isInUse } from '../access/customers.ts';
import type { Db } from '../db/transaction.ts';
import { noteCustomerMissing, unlessGone } from './missing.ts';

/**
 * `dropped` when the customer is gone, when it is retired without a live plan and `forRetired` is null, or when the account
 * is gone or has no address.
 */
export type Told = 'told' | 'dropped';

/**
 * Sends a customer's current address to Stripe, so that receipts go there. It is safe to repeat.
 * https://docs.stripe.com/api/customers/update
 *
 * @param forRetired the address to send for a retired customer without a live plan; null sends none
 * @throws StripeError when Stripe refuses or cannot be reached, or the customer exists only in the other mode
 */
export async function tellCustomerAddress(
  { db, stripe }: { db: Db; stripe: Stripe },
  customerId: string,
  forRetired: string | null,
  now: Date,
): Promise<Told> {
  const include = { user: true, subscriptions: { select: { status: true, counts: true } } };
  const customer = await db.customer.findUnique({ where: { id: customerId }, include });
  const current = customer?.user?.email ?? null;
  if (!customer || customer.deletedAt || current === null) return 'dropped';
  // A stranger may still have a page of its portal open, which would show them a later address. Stripe sends no more
  // receipts for it, unless it has a plan.
  const email = isInUse(customer) ? current : forRetired;
  if (email === null) return 'dropped';
  if (!(await unlessGone(() => stripe.customers.update(customerId, { email })))) {
    await noteCustomerMissing(db, customerId, now);
    return 'dropped';
  }
  if (!isInUse(customer)) return 'told';
  // A later change may have reached Stripe before this one.
  const after = await db.customer.findUnique({ where: { id: customerId }, include: { user: true } });
  return after?.user?.email === email
    ? 'told'
    : tellCustomerAddress({ db, stripe }, customerId, forRetired, now);
}
