import { randomUUID } from 'node:crypto';

import type { Stripe } from 'stripe';

import { endCustomer, ensureCustomerRow } from '../access/customers.ts';
import { follow } from '../access/follow.ts';
import { isOver } from '../access/live.ts';
import type { Db } from '../db/transaction.ts';
import { inTransaction } from '../db/transaction.ts';
import { inUnit } from '../db/unit-of-work.ts';
import type { Programme } from '../programme.ts';
import { unlessGone } from './missing.ts';

interface Parts {
  db: Db;
  stripe: Stripe;
  programme: Programme;
}

/**
 * Deletes a user's customers at Stripe whose subscriptions are all over, and ends them in our rows without waiting for
 * the events. Otherwise whoever opened a portal page before the owner claimed the account could see and change the plan
 * that the owner buys later. A customer with any other subscription stays, even one to another product in the same
 * Stripe account. https://docs.stripe.com/api/customers/delete
 *
 * @throws StripeError when Stripe refuses or cannot be reached
 */
export async function deleteUnusedCustomers(parts: Parts, userId: string, now: Date): Promise<void> {
  const customers = await parts.db.customer.findMany({
    where: { userId, deletedAt: null },
    select: { id: true },
    orderBy: { id: 'asc' },
  });
  for (const { id } of customers) await deleteUnusedCustomer(parts, id, userId, now);
}

/** Does what `deleteUnusedCustomers` does for one customer. */
export async function deleteUnusedCustomer(
  { db, stripe, programme }: Parts,
  customer: string,
  userId: string,
  now: Date,
): Promise<void> {
  const isDeleted = await unlessGone(async () => {
    for await (const { status } of stripe.subscriptions.list({ customer, limit: 100 }))
      if (!isOver(status)) return false;
    await stripe.customers.del(customer);
    return true;
  });
  if (!isDeleted) return;
  await inTransaction(db, now, (tx) =>
    inUnit(tx, programme, { customers: [customer], users: [userId] }, (unit) => {
      endCustomer(unit, ensureCustomerRow(unit, customer), tx.now);
      follow(unit, userId, { id: `claim-${randomUUID()}`, actor: 'stripe' }, false);
    }),
  );
}
