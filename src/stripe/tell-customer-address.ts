import type { Stripe } from 'stripe';

import type { Db } from '../db/transaction.ts';
import { noteCustomerMissing, unlessGone } from './missing.ts';

/** `told`; or `dropped`, because there is nobody left to tell it of. */
export type Told = 'told' | 'dropped';

/**
 * Tells Stripe a customer's address of the moment, so that its receipts go there. Doing it again changes nothing.
 * https://docs.stripe.com/api/customers/update
 *
 * @param parts the database, and Stripe
 * @param customerId whose
 * @param now the instant, UTC
 * @throws StripeError when Stripe refuses or cannot be reached, or knows the customer in its other mode
 */
export async function tellCustomerAddress(
  { db, stripe }: { db: Db; stripe: Stripe },
  customerId: string,
  now: Date,
): Promise<Told> {
  const customer = await db.customer.findUnique({ where: { id: customerId }, include: { user: true } });
  const email = customer?.user?.email ?? null;
  if (!customer || customer.deletedAt || email === null) return 'dropped';
  if (await unlessGone(() => stripe.customers.update(customerId, { email }))) return 'told';
  await noteCustomerMissing(db, customerId, now);
  return 'dropped';
}
