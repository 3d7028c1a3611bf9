import type { Subscription } from '../db/generated/client.ts';

/** Statuses that nothing follows: they win over every other snapshot. */
export const TERMINAL_STATUSES: ReadonlySet<string> = new Set(['canceled', 'incomplete_expired']);

/**
 * @param subscription one of a user's
 * @returns whether it counts and is not over: it is managed in the portal, and no second one is sold
 */
export function isLive({ status, counts }: Pick<Subscription, 'status' | 'counts'>): boolean {
  return counts && status !== null && status !== 'incomplete' && !TERMINAL_STATUSES.has(status);
}

/**
 * @param subscriptions a user's
 * @returns whether one of them is not over, as far as Stripe knows it
 */
export function isOneLive(
  subscriptions: readonly Pick<Subscription, 'status' | 'counts' | 'missingAt'>[],
): boolean {
  return subscriptions.some((subscription) => isLive(subscription) && subscription.missingAt === null);
}
