import type { Subscription } from '../db/generated/client.ts';

export type TierFacts = Pick<Subscription, 'status' | 'counts' | 'provenAt' | 'trialRefused'>;

export type Tier = 'free' | 'trial' | 'paid';

const RANK: Record<Tier, number> = { free: 0, trial: 1, paid: 2 };

/** What one subscription gives (design: rule 6). Unknown statuses give nothing. */
export function tierOf(subscription: TierFacts): Tier {
  if (!subscription.counts) return 'free';
  switch (subscription.status) {
    case 'active':
      return 'paid';
    case 'trialing':
      return subscription.trialRefused ? 'free' : 'trial';
    case 'past_due':
      // A trial whose card fails was "active" for an hour and never paid.
      return subscription.provenAt ? 'paid' : 'free';
    default:
      return 'free';
  }
}

/** The user's tier: the best of all subscriptions of all of their customers. */
export function deriveTier(subscriptions: readonly TierFacts[]): Tier {
  return subscriptions
    .map(tierOf)
    .reduce<Tier>((best, tier) => (RANK[tier] > RANK[best] ? tier : best), 'free');
}
