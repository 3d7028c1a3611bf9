import { Stripe } from 'stripe';

import type { Db } from '../db/transaction.ts';
import { inTransaction } from '../db/transaction.ts';

/**
 * Why Stripe does not find an id. `gone`: it knows no such object (deleted test data, or a database copied from
 * elsewhere). `other-mode`: the object exists in the other mode, so our key is the wrong one and nothing may be
 * dropped.
 */
export type Absence = 'gone' | 'other-mode';

/** @returns null when the error means something else */
export function absenceOf(error: unknown): Absence | null {
  if (!(error instanceof Stripe.errors.StripeInvalidRequestError)) return null;
  if (error.code !== 'resource_missing') return null;
  // Stripe has no error code for this.
  return /a similar object exists in (live|test) mode/.test(error.message) ? 'other-mode' : 'gone';
}

/**
 * Runs a call to Stripe that names one object.
 *
 * @returns null when Stripe knows no such object
 * @throws StripeError of any other kind, including when the object exists only in the other mode
 */
export async function unlessGone<T>(call: () => Promise<T>): Promise<T | null> {
  try {
    return await call();
  } catch (error) {
    if (absenceOf(error) === 'gone') return null;
    throw error;
  }
}

/**
 * Records that Stripe does not know a customer, and so does not know its subscriptions either. They are no longer used
 * for new sessions. No subscription ends and no tier changes (design: rule 6). A customer that was deleted at Stripe is
 * recorded like this, too, until its `customer.deleted` arrives.
 */
export async function noteCustomerMissing(db: Db, customerId: string, now: Date): Promise<void> {
  await inTransaction(db, now, async (tx) => {
    const note = { missingAt: tx.now };
    await tx.customer.updateMany({ where: { id: customerId, missingAt: null }, data: note });
    await tx.subscription.updateMany({ where: { customerId, missingAt: null }, data: note });
  });
}

/** Records whether Stripe knows a subscription. If it does, it knows the customer too. */
export async function noteWhetherKnown(
  db: Db,
  { id, customerId, missingAt }: { id: string; customerId: string; missingAt: Date | null },
  isKnown: boolean,
  now: Date,
): Promise<void> {
  if (isKnown === (missingAt === null)) return;
  await inTransaction(db, now, async (tx) => {
    // Lock order: the customer before its subscriptions.
    if (isKnown) await tx.customer.updateMany({ where: { id: customerId }, data: { missingAt: null } });
    await tx.subscription.updateMany({ where: { id }, data: { missingAt: isKnown ? null : tx.now } });
  });
}
