import type { Stripe } from 'stripe';

import type { Db } from '../db/transaction.ts';
import { unlessGone } from './missing.ts';

/**
 * Asks Stripe whether a user ever paid, because the webhook of their payment may not have arrived yet.
 * https://docs.stripe.com/api/invoices/list
 *
 * @param parts `stripe` is null when no key is configured
 * @throws StripeError when Stripe cannot be reached, or a customer exists only in the other mode
 */
export async function hasPaidAtStripe(
  { db, stripe }: { db: Db; stripe: Stripe | null },
  userId: string,
): Promise<boolean> {
  if (!stripe) return false;
  const customers = await db.customer.findMany({
    where: { userId, deletedAt: null },
    select: { id: true },
  });
  for (const { id } of customers) {
    const paid = await unlessGone(() => stripe.invoices.list({ customer: id, status: 'paid', limit: 100 }));
    if (paid?.data.some(({ amount_paid: amount }) => amount > 0)) return true;
  }
  return false;
}
