import type { User } from '../db/generated/client.ts';
import type { Db } from '../db/transaction.ts';
import { TERMINAL_STATUSES } from './facts/ordering.ts';
import type { BillingContext } from './stripe-customer.ts';

/**
 * @param db the database
 * @param userId whose subscriptions
 * @returns whether one of them is not over: it is managed in the portal, and no second one is sold
 */
export async function hasLiveSubscription(db: Db, userId: string): Promise<boolean> {
  const count = await db.subscription.count({
    where: { customer: { userId }, status: { not: null, notIn: [...TERMINAL_STATUSES, 'incomplete'] } },
  });
  return count > 0;
}

/**
 * Opens the customer portal at Stripe. https://docs.stripe.com/api/customer_portal/sessions/create
 *
 * @param context Stripe, the database, and where we are
 * @param user who asks
 * @returns the address of the portal, or null when the user has never been a customer
 * @throws StripeError when Stripe refuses or cannot be reached
 */
export async function openPortal(context: BillingContext, user: User): Promise<string | null> {
  const customer = await context.db.customer.findFirst({
    where: { userId: user.id, deletedAt: null },
    orderBy: [{ subscriptions: { _count: 'desc' } }, { id: 'asc' }],
  });
  if (!customer) return null;
  const session = await context.stripe.billingPortal.sessions.create({
    customer: customer.id,
    return_url: `${context.publicUrl}/settings`,
  });
  return session.url;
}
