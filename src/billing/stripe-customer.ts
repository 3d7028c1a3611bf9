import type { Stripe } from 'stripe';

import type { StripeConfig } from '../config.ts';
import type { User } from '../db/generated/client.ts';
import type { Db } from '../db/transaction.ts';
import { inTransaction } from '../db/transaction.ts';
import { endCustomer, lockCustomer } from './facts/customers.ts';
import { linkCustomer } from './link-customer.ts';

export interface BillingContext {
  db: Db;
  stripe: Stripe;
  config: StripeConfig;
  publicUrl: string;
}

/**
 * The customer that a user is at Stripe, made now if there is none. https://docs.stripe.com/api/customers/create
 *
 * @param context Stripe and the database
 * @param user who buys
 * @param now the instant, UTC
 * @returns Stripe's id of the customer, linked to the user
 * @throws StripeError when Stripe refuses or cannot be reached
 */
export async function ensureCustomer({ db, stripe }: BillingContext, user: User, now: Date): Promise<string> {
  const customers = await db.customer.findMany({ where: { userId: user.id }, orderBy: { id: 'asc' } });
  const known = customers.find((customer) => customer.deletedAt === null);
  if (known) return known.id;

  const created = await stripe.customers.create(
    { metadata: { userId: user.id }, ...(user.email !== null && { email: user.email }) },
    // Two tabs at once get one customer. The next one, should this one be deleted at Stripe, has another key.
    { idempotencyKey: `customer-${user.id}-${customers.length}` },
  );
  await inTransaction(db, now, async (tx) => linkCustomer(tx, await lockCustomer(tx, created.id), user.id));
  return created.id;
}

/**
 * Notes that Stripe does not know a customer any more, though its `customer.deleted` never reached us.
 *
 * @param db the database
 * @param customerId the customer
 * @param now the instant, UTC
 */
export async function forgetCustomer(db: Db, customerId: string, now: Date): Promise<void> {
  await inTransaction(db, now, async (tx) => endCustomer(tx, await lockCustomer(tx, customerId), tx.now));
}
