import type { Subscription, User } from '../db/generated/client.ts';
import { TERMINAL_STATUSES } from './facts/ordering.ts';
import type { BillingContext } from './stripe-customer.ts';

/**
 * @param subscriptions a user's
 * @returns whether one of those that count is not over: it is managed in the portal, and no second one is sold
 */
export function isOneLive(subscriptions: readonly Pick<Subscription, 'status' | 'counts'>[]): boolean {
  return subscriptions.some(
    ({ status, counts }) =>
      counts && status !== null && status !== 'incomplete' && !TERMINAL_STATUSES.has(status),
  );
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
