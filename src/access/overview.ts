import type { Config, Plan, Prices } from '../config.ts';
import type { Subscription, User } from '../db/generated/client.ts';
import type { Reader } from '../db/transaction.ts';
import { wholeSeconds } from '../instants.ts';
import { countReferrals } from '../referrals/counts.ts';
import type { ReferralCounts } from '../referrals/counts.ts';
import { accessOf, creditView } from './access.ts';
import type { Access, CreditView } from './access.ts';
import { isLiveAndKnown } from './live.ts';
import { itemsOf } from './subscriptions.ts';
import { tierOf } from './tier.ts';
import type { Tier } from './tier.ts';

/** What a user sees of their account: `GET /api/me`, Settings, and the operator's `user`. */
export interface Overview extends CreditView {
  id: string;
  email: string;
  emailProven: boolean;
  tier: Tier;
  access: Access;
  referral: ReferralCounts & { code: string; url: string };
  subscription: SubscriptionView | null;
}

export interface SubscriptionView {
  status: string;
  /** From the item with one of our prices, else from the first item; null when the price is not ours. */
  plan: Plan | null;
  currentPeriodEnd: Date | null;
  /** When the subscription will end; null unless Stripe gives a time. */
  cancelAt: Date | null;
  /** It ends with the current period. */
  cancelAtPeriodEnd: boolean;
  trialEnd: Date | null;
}

/** What an overview needs from the configuration. */
export interface OverviewConfig {
  publicUrl: string;
  prices: Prices;
}

export function overviewConfigOf({ publicUrl, stripe: { prices } }: Config): OverviewConfig {
  return { publicUrl, prices };
}

export async function describeUser(
  db: Reader,
  user: User,
  subscriptions: readonly Subscription[],
  config: OverviewConfig,
  now: Date,
): Promise<Overview> {
  const at = wholeSeconds(now);
  const counts = await countReferrals(db, user, at);
  const subscription = shownOf(subscriptions);
  const view = subscription && subscriptionView(subscription, config.prices);
  return {
    id: user.id,
    email: user.email ?? '',
    emailProven: user.emailProvenAt !== null,
    tier: user.tier as Overview['tier'],
    ...creditView(user, at),
    access: accessOf(user, view, at),
    referral: { code: user.code, url: `${config.publicUrl}/r/${user.code}`, ...counts },
    subscription: view,
  };
}

/** The subscription of `GET /api/me`; null when there is none. */
export function shownOf(subscriptions: readonly Subscription[]): Subscription | null {
  return (
    subscriptions.filter(({ status, counts }) => counts && status !== null).sort(byImportance)[0] ?? null
  );
}

/**
 * The subscription that pages and emails speak of: the one that gives the tier; else a live one, which can still be
 * saved; else the newest. Null when there is none.
 */
export function currentOf(subscriptions: readonly Subscription[]): Subscription | null {
  const shown = shownOf(subscriptions);
  if (shown && tierOf(shown) !== 'free') return shown;
  return shownOf(subscriptions.filter(isLiveAndKnown)) ?? shown;
}

const TIER_ORDER = ['paid', 'trial', 'free'];

/** By tier; of paid ones, `active` before `past_due`; then the newest by its own `created`, then by id. */
function byImportance(a: Subscription, b: Subscription): number {
  return (
    TIER_ORDER.indexOf(tierOf(a)) - TIER_ORDER.indexOf(tierOf(b)) ||
    Number(isPaidLate(a)) - Number(isPaidLate(b)) ||
    (b.createdAt?.getTime() ?? 0) - (a.createdAt?.getTime() ?? 0) ||
    a.id.localeCompare(b.id)
  );
}

function isPaidLate(subscription: Subscription): boolean {
  return subscription.status === 'past_due' && tierOf(subscription) === 'paid';
}

/** The plan of a subscription; null when its price is not ours. */
export function planOf(subscription: Subscription, prices: Prices): Plan | null {
  return planOfPrice(itemShown(subscription, prices).priceId, prices);
}

function itemShown(subscription: Subscription, prices: Prices) {
  const items = itemsOf(subscription);
  return items.find((item) => planOfPrice(item.priceId, prices)) ?? items[0];
}

export function subscriptionView(subscription: Subscription, prices: Prices): SubscriptionView {
  const { status, cancelAt, trialEnd } = subscription;
  const { priceId, currentPeriodEnd } = itemShown(subscription, prices);
  const endsInThePeriod = cancelAt !== null && (currentPeriodEnd === null || cancelAt <= currentPeriodEnd);
  return {
    status: status ?? '',
    plan: planOfPrice(priceId, prices),
    currentPeriodEnd,
    cancelAt,
    cancelAtPeriodEnd: subscription.cancelAtPeriodEnd || endsInThePeriod,
    trialEnd,
  };
}

function planOfPrice(priceId: string | null, prices: Prices): Plan | null {
  if (priceId === null) return null;
  if (priceId === prices.monthly) return 'monthly';
  return priceId === prices.annual ? 'annual' : null;
}
