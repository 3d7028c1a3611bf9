import type { Stripe } from 'stripe';

import { isLive } from '../access/live.ts';
import type { Db } from '../db/transaction.ts';
import { noteCustomerMissing, unlessGone } from './missing.ts';

/** `dropped` when the customer is gone, or retired without a live plan, or the account is gone or has no address. */
export type Told = 'told' | 'dropped';

/**
 * Sends a customer's current address to Stripe, so that receipts go there. It is safe to repeat.
 * https://docs.stripe.com/api/customers/update
 *
 * @throws StripeError when Stripe refuses or cannot be reached, or the customer exists only in the other mode
 */
export async function tellCustomerAddress(
  { db, stripe }: { db: Db; stripe: Stripe },
  customerId: string,
  now: Date,
): Promise<Told> {
  const include = { user: true, subscriptions: { select: { status: true, counts: true } } };
  const customer = await db.customer.findUnique({ where: { id: customerId }, include });
  const email = customer?.user?.email ?? null;
  if (!customer || customer.deletedAt || email === null) return 'dropped';
  // A page of its portal would show the new address to the stranger because of whom it was retired. Stripe sends no more
  // receipts for it, unless it has a plan.
  if (customer.retiredAt && !customer.subscriptions.some(isLive)) return 'dropped';
  if (!(await unlessGone(() => stripe.customers.update(customerId, { email })))) {
    await noteCustomerMissing(db, customerId, now);
    return 'dropped';
  }
  // A later change may have reached Stripe before this one.
  const after = await db.customer.findUnique({ where: { id: customerId }, include: { user: true } });
  return after?.user?.email === email ? 'told' : tellCustomerAddress({ db, stripe }, customerId, now);
}
