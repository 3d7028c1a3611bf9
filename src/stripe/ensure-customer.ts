import type { Stripe } from 'stripe';

import { ensureCustomerRow, linkCustomer } from '../access/customers.ts';
import type { StripeConfig } from '../config.ts';
import type { User } from '../db/generated/client.ts';
import type { Db } from '../db/transaction.ts';
import { inTransaction } from '../db/transaction.ts';
import { inUnit } from '../db/unit-of-work.ts';
import { queueNow } from '../outbox/queue.ts';
import type { Programme } from '../programme.ts';
import { carryBalances } from './carry-balance.ts';

export interface BillingContext {
  db: Db;
  stripe: Stripe;
  config: StripeConfig;
  publicUrl: string;
  programme: Programme;
}

/**
 * The user's customer at Stripe for a new checkout, created and linked if there is none, with the credit of retired ones.
 * https://docs.stripe.com/api/customers/create
 *
 * @param checkoutId makes the idempotency key, so that two tabs with the same checkout get one customer
 * @returns Stripe's id of the customer
 * @throws StripeError when Stripe refuses or cannot be reached
 */
export async function ensureCustomer(
  { db, stripe, programme }: BillingContext,
  user: User,
  checkoutId: string,
  now: Date,
): Promise<string> {
  const known = await db.customer.findFirst({
    where: { userId: user.id, deletedAt: null, missingAt: null, retiredAt: null },
    // The oldest link first: whoever knows the user's id can link another customer with a payment link of this Stripe
    // account.
    orderBy: [{ linkedAt: { sort: 'asc', nulls: 'first' } }, { id: 'asc' }],
  });
  if (known) return known.id;

  const created = await stripe.customers.create(
    { metadata: { userId: user.id }, ...(user.email !== null && { email: user.email }) },
    { idempotencyKey: `customer-${checkoutId}` },
  );
  await carryBalances(db, stripe, user.id, created.id);
  await inTransaction(db, now, async (tx) => {
    await inUnit(tx, programme, { customers: [created.id], users: [user.id] }, (unit) => {
      linkCustomer(unit, ensureCustomerRow(unit, created.id), user.id);
    });
    // If the address changed while Stripe was creating this customer, only the user's other customers were told.
    const { email } = await tx.user.findUniqueOrThrow({ where: { id: user.id }, select: { email: true } });
    if (email !== null && email !== user.email) {
      const data = { customerId: created.id };
      await queueNow(tx, [{ kind: 'stripe.customer-address', userId: user.id, data }]);
    }
  });
  return created.id;
}
