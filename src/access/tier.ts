import type { Subscription } from '../db/generated/client.ts';

/** What decides which tier a subscription gives. */
export type TierFacts = Pick<Subscription, 'status' | 'counts' | 'provenAt' | 'trialRefused'>;

export type Tier = 'free' | 'trial' | 'paid';

const RANK: Record<Tier, number> = { free: 0, trial: 1, paid: 2 };

/**
 * What one subscription gives (design: rule 6). Statuses we do not know give nothing.
 *
 * @param subscription its status, whether it counts, since when its facts prove a payment, and whether its trial is the
 *   second of an address
 * @returns the tier it gives by itself
 */
export function tierOf(subscription: TierFacts): Tier {
  if (!subscription.counts) return 'free';
  switch (subscription.status) {
    case 'active':
      return 'paid';
    case 'trialing':
      return subscription.trialRefused ? 'free' : 'trial';
    case 'past_due':
      // A trial whose card fails was "active" for an hour, and never paid.
      return subscription.provenAt ? 'paid' : 'free';
    default:
      return 'free';
  }
}

/**
 * @param subscriptions all subscriptions of all of a user's customers
 * @returns the user's tier: the best that one of them gives
 */
export function deriveTier(subscriptions: readonly TierFacts[]): Tier {
  return subscriptions
    .map(tierOf)
    .reduce<Tier>((best, tier) => (RANK[tier] > RANK[best] ? tier : best), 'free');
}
