import { isLive } from '../access/live.ts';
import { isPaid } from '../access/proof.ts';
import type { Subscription, User } from '../db/generated/client.ts';
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
 * @returns the portal's URL; null when the user has no customer that Stripe knows, apart from retired ones that never paid
 * @throws StripeError when Stripe refuses or cannot be reached, or the customer exists only in the other mode
 */
export async function openPortal(context: BillingContext, user: User, now: Date): Promise<string | null> {
  const { db, stripe, publicUrl } = context;
  const customers = await db.customer.findMany({
    where: { userId: user.id, deletedAt: null, missingAt: null },
    include: { subscriptions: { select: { status: true, counts: true, firstPaidAt: true, provenAt: true } } },
    orderBy: [...OLDEST_LINK_FIRST],
  });
  for (const { id } of customers.filter(isOfUse).toSorted(liveFirst)) {
    const session = await unlessGone(() =>
      stripe.billingPortal.sessions.create({ customer: id, return_url: `${publicUrl}/settings` }),
    );
    if (session) return session.url;
    await noteCustomerMissing(db, id, now);
  }
  return null;
}

/** Of a retired customer that never paid, the portal shows no invoices, but perhaps a stranger's card and address. */
function isOfUse({ retiredAt, subscriptions }: CustomerOfPortal): boolean {
  return retiredAt === null || subscriptions.some((one) => isLive(one) || isPaid(one));
}

type CustomerOfPortal = { retiredAt: Date | null; subscriptions: readonly SubscriptionOfPortal[] };

type SubscriptionOfPortal = Pick<Subscription, 'status' | 'counts' | 'firstPaidAt' | 'provenAt'>;

/** Orders customers with a live subscription first, then those that have invoices, then those that are not retired. */
function liveFirst(a: CustomerOfPortal, b: CustomerOfPortal): number {
  const live = ({ subscriptions }: CustomerOfPortal): number => Number(subscriptions.some(isLive));
  const retired = ({ retiredAt }: CustomerOfPortal): number => Number(retiredAt !== null);
  const paid = ({ subscriptions }: CustomerOfPortal): number => Number(subscriptions.some(isPaid));
  return live(b) - live(a) || paid(b) - paid(a) || retired(a) - retired(b);
}
