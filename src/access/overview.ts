import { itemsOf } from './subscriptions.ts';
import { tierOf } from './tier.ts';
import type { Prices } from '../config.ts';
import type { Subscription, User } from '../db/generated/client.ts';
import type { Db } from '../db/transaction.ts';
import { countReferrals } from '../referrals/counts.ts';
import type { ReferralCounts } from '../referrals/counts.ts';
import { accessOf, creditView } from './access.ts';
import type { Access, CreditView } from './access.ts';
import { wholeSeconds } from '../instants.ts';

/** Everything that a user is shown of their account: `GET /api/me`, Settings, and the operator's `user`. */
export interface Overview extends CreditView {
  id: string;
  email: string;
  emailProven: boolean;
  tier: 'free' | 'trial' | 'paid';
  access: Access;
  referral: ReferralCounts & { code: string; url: string };
  subscription: SubscriptionView | null;
}

export interface SubscriptionView {
  status: string;
  /** Of the item whose price is ours, else of the first; null when the price is not ours. */
  plan: 'monthly' | 'annual' | null;
  currentPeriodEnd: Date | null;
  /** When it was decided that it ends, if Stripe names an instant. */
  cancelAt: Date | null;
  /** It ends with the current period. */
  cancelAtPeriodEnd: boolean;
  trialEnd: Date | null;
}

/** What an overview needs to know of the server. */
export interface Place {
  publicUrl: string;
  prices: Prices;
}

/**
 * @param db the database
 * @param user the user's row
 * @param subscriptions all that are known of them
 * @param place where we are, and the ids of our prices
 * @param now the instant, UTC
 * @returns the overview of the account at that instant
 */
export async function describeUser(
  db: Db,
  user: User,
  subscriptions: readonly Subscription[],
  place: Place,
  now: Date,
): Promise<Overview> {
  const at = wholeSeconds(now);
  const counts = await countReferrals(db, user, at);
  const subscription = shownOf(subscriptions);
  const view = subscription && viewOf(subscription, place.prices);
  return {
    id: user.id,
    email: user.email ?? '',
    emailProven: user.emailProvenAt !== null,
    tier: user.tier as Overview['tier'],
    ...creditView(user, at),
    access: accessOf(user, view, at),
    referral: { code: user.code, url: `${place.publicUrl}/r/${user.code}`, ...counts },
    subscription: view,
  };
}

/**
 * @param subscriptions all that are known of a user
 * @returns the one that is shown of them; null when there is none
 */
export function shownOf(subscriptions: readonly Subscription[]): Subscription | null {
  return (
    subscriptions.filter(({ status, counts }) => counts && status !== null).sort(byImportance)[0] ?? null
  );
}

const TIER_ORDER = ['paid', 'trial', 'free'];

/** The one that gives the tier first, `active` before `past_due`; then the newest by its own `created`; then by id. */
function byImportance(a: Subscription, b: Subscription): number {
  return (
    TIER_ORDER.indexOf(tierOf(a)) - TIER_ORDER.indexOf(tierOf(b)) ||
    Number(a.status === 'past_due') - Number(b.status === 'past_due') ||
    (b.createdAt?.getTime() ?? 0) - (a.createdAt?.getTime() ?? 0) ||
    a.id.localeCompare(b.id)
  );
}

function viewOf(subscription: Subscription, prices: Prices): SubscriptionView {
  const { status, cancelAt, trialEnd } = subscription;
  const items = itemsOf(subscription);
  const { priceId, currentPeriodEnd } = items.find((item) => planOf(item.priceId, prices)) ?? items[0];
  const endsInThePeriod = cancelAt !== null && (currentPeriodEnd === null || cancelAt <= currentPeriodEnd);
  return {
    status: status ?? '',
    plan: planOf(priceId, prices),
    currentPeriodEnd,
    cancelAt,
    cancelAtPeriodEnd: subscription.cancelAtPeriodEnd || endsInThePeriod,
    trialEnd,
  };
}

function planOf(priceId: string | null, prices: Prices): 'monthly' | 'annual' | null {
  if (priceId === null) return null;
  if (priceId === prices.monthly) return 'monthly';
  return priceId === prices.annual ? 'annual' : null;
}
