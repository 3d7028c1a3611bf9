import { Stripe } from 'stripe';

import type { Db } from '../db/transaction.ts';
import { inTransaction } from '../db/transaction.ts';

/**
 * What Stripe means by refusing an id. `gone`: it knows no such object (deleted test data, a database copied from elsewhere).
 * `other-mode`: it knows the object in its other mode, so that our key is the wrong one; then nothing may be dropped.
 */
export type Absence = 'gone' | 'other-mode';

/**
 * @param error what asking Stripe threw
 * @returns why Stripe did not find what it was asked for; null when the error says something else
 */
export function absenceOf(error: unknown): Absence | null {
  if (!(error instanceof Stripe.errors.StripeInvalidRequestError)) return null;
  if (error.code !== 'resource_missing') return null;
  // There is no code of its own for it.
  return /a similar object exists in (live|test) mode/.test(error.message) ? 'other-mode' : 'gone';
}

/**
 * Asks Stripe about one object.
 *
 * @param call asks
 * @returns what it returned; null when Stripe knows no such object
 * @throws StripeError of any other kind, also when the object exists in the other mode
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
 * Notes that Stripe does not know a customer, and so none of its subscriptions: they are used for nothing new. That ends
 * no subscription and changes no tier (design: rule 6).
 *
 * @param db the database
 * @param customerId the customer
 * @param now the instant, UTC
 */
export async function noteCustomerMissing(db: Db, customerId: string, now: Date): Promise<void> {
  await inTransaction(db, now, async (tx) => {
    const note = { missingAt: tx.now };
    await tx.customer.updateMany({ where: { id: customerId, missingAt: null }, data: note });
    await tx.subscription.updateMany({ where: { customerId, missingAt: null }, data: note });
  });
}

/**
 * Notes whether Stripe knows a subscription. If it does, it knows the customer as well.
 *
 * @param db the database
 * @param subscription our row
 * @param isKnown what Stripe says now
 * @param now the instant, UTC
 */
export async function noteSubscription(
  db: Db,
  { id, customerId, missingAt }: { id: string; customerId: string; missingAt: Date | null },
  isKnown: boolean,
  now: Date,
): Promise<void> {
  if (isKnown === (missingAt === null)) return;
  await inTransaction(db, now, async (tx) => {
    // The customer first, as everybody does who locks both.
    if (isKnown) await tx.customer.updateMany({ where: { id: customerId }, data: { missingAt: null } });
    await tx.subscription.updateMany({ where: { id }, data: { missingAt: isKnown ? null : tx.now } });
  });
}
