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

/**
 * Deletes a customer at Stripe whose subscriptions have been cancelled, so that a portal page or a card of theirs
 * cannot be used again, and ends it in our rows without waiting for the event. One with a subscription to another
 * product in the same Stripe account stays. https://docs.stripe.com/api/customers/delete
 *
 * @throws StripeError when Stripe refuses or cannot be reached
 */
export async function deleteUnusedCustomer(
  { db, stripe, programme }: { db: Db; stripe: Stripe; programme: Programme },
  customer: string,
  userId: string,
  now: Date,
): Promise<void> {
  const isDeleted = await unlessGone(async () => {
    for await (const { status } of stripe.subscriptions.list({ customer, status: 'all', limit: 100 }))
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
