import type { Stripe } from 'stripe';

import type { StripeConfig } from '../config.ts';
import type { User } from '../db/generated/client.ts';
import type { Db } from '../db/transaction.ts';
import { inTransaction } from '../db/transaction.ts';
import { inUnit } from '../db/unit-of-work.ts';
import type { Programme } from '../db/unit-of-work.ts';
import { queueNow } from '../outbox/queue.ts';
import { customerOf, linkCustomer } from '../access/customers.ts';

export interface BillingContext {
  db: Db;
  stripe: Stripe;
  config: StripeConfig;
  publicUrl: string;
  programme: Programme;
}

/**
 * The customer that a user is at Stripe, made now if there is none. https://docs.stripe.com/api/customers/create
 *
 * @param context Stripe and the database
 * @param user who buys
 * @param checkoutId the checkout that they buy in; two tabs in one checkout get one customer
 * @param now the instant, UTC
 * @returns Stripe's id of the customer, linked to the user
 * @throws StripeError when Stripe refuses or cannot be reached
 */
export async function ensureCustomer(
  { db, stripe, programme }: BillingContext,
  user: User,
  checkoutId: string,
  now: Date,
): Promise<string> {
  const known = await db.customer.findFirst({
    where: { userId: user.id, deletedAt: null, missingAt: null },
    orderBy: { id: 'asc' },
  });
  if (known) return known.id;

  const created = await stripe.customers.create(
    { metadata: { userId: user.id }, ...(user.email !== null && { email: user.email }) },
    { idempotencyKey: `customer-${checkoutId}` },
  );
  await inTransaction(db, now, async (tx) => {
    await inUnit(tx, programme, { customers: [created.id], users: [user.id] }, (unit) => {
      linkCustomer(unit, customerOf(unit, created.id), user.id);
    });
    // Changed while Stripe made the customer, the address was told to the other ones only.
    const { email } = await tx.user.findUniqueOrThrow({ where: { id: user.id }, select: { email: true } });
    if (email !== null && email !== user.email) {
      const data = { customerId: created.id };
      await queueNow(tx, [{ kind: 'stripe.customer-address', userId: user.id, data }]);
    }
  });
  return created.id;
}
