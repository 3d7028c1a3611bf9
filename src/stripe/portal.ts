import { isLive } from '../access/live.ts';
import { isPaid } from '../access/proof.ts';
import type { Customer, Subscription, User } from '../db/generated/client.ts';
import { OLDEST_LINK_FIRST } from './ensure-customer.ts';
import type { BillingContext } from './ensure-customer.ts';
import { noteCustomerMissing, noteWhetherKnown, unlessGone } from './missing.ts';

/**
 * Asks Stripe whether one of a user's subscriptions is live before sending them to the portal, because Stripe may not
 * know the subscriptions in our rows.
 *
 * @param live those that are live in our rows
 * @throws StripeError when Stripe cannot be reached, or one exists only in the other mode
 */
export async function anyLiveAtStripe(
  { db, stripe }: BillingContext,
  live: readonly Subscription[],
  now: Date,
): Promise<boolean> {
  for (const subscription of live) {
    const known = await unlessGone(() => stripe.subscriptions.retrieve(subscription.id));
    await noteWhetherKnown(db, subscription, known !== null, now);
    if (known && isLive({ status: known.status, counts: true })) return true;
  }
  return false;
}

/**
 * Opens the customer portal at Stripe, for the customer whose subscription is live if there are several.
 * https://docs.stripe.com/api/customer_portal/sessions/create
 *
 * @returns the portal's URL; null when the user has no customer that Stripe knows, apart from retired ones that have no live
 *   plan and never paid
 * @throws StripeError when Stripe refuses or cannot be reached, or the customer exists only in the other mode
 */
export async function openPortal(context: BillingContext, user: User, now: Date): Promise<string | null> {
  const { db, stripe, publicUrl } = context;
  const customers = await db.customer.findMany({
    where: { userId: user.id, deletedAt: null, missingAt: null },
    include: { subscriptions: { select: { status: true, counts: true, firstPaidAt: true, provenAt: true } } },
    orderBy: [...OLDEST_LINK_FIRST],
  });
  for (const { id } of customers.filter(isOfUse).toSorted((a, b) => rank(b) - rank(a))) {
    const session = await unlessGone(() =>
      stripe.billingPortal.sessions.create({ customer: id, return_url: `${publicUrl}/settings` }),
    );
    if (session) return session.url;
    await noteCustomerMissing(db, id, now);
  }
  return null;
}

/**
 * For a retired customer that never paid, the portal has no invoices to show, but it may show a stranger's card and
 * address.
 */
function isOfUse({ retiredAt, subscriptions }: CustomerOfPortal): boolean {
  return retiredAt === null || subscriptions.some((one) => isLive(one) || isPaid(one));
}

type CustomerOfPortal = Pick<Customer, 'ours' | 'retiredAt'> & {
  subscriptions: readonly SubscriptionOfPortal[];
};

type SubscriptionOfPortal = Pick<Subscription, 'status' | 'counts' | 'firstPaidAt' | 'provenAt'>;

/**
 * Ranks customers: those with a live subscription come first, of these our own before one that somebody else may have
 * linked; then those that have invoices, then our own, then those that are not retired.
 */
function rank({ ours, retiredAt, subscriptions }: CustomerOfPortal): number {
  const live = subscriptions.some(isLive);
  const paid = subscriptions.some(isPaid);
  return (live ? 16 : 0) + (live && ours ? 8 : 0) + (paid ? 4 : 0) + (ours ? 2 : 0) + (retiredAt ? 0 : 1);
}
