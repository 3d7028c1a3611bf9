import type { Subscription } from '../db/generated/client.ts';

/** Final statuses: they win over every other snapshot. */
export const TERMINAL_STATUSES: ReadonlySet<string> = new Set(['canceled', 'incomplete_expired']);

/** Whether a subscription with this status has ended for good. */
export function isOver(status: string): boolean {
  return TERMINAL_STATUSES.has(status);
}

/**
 * Whether a subscription counts, has started and is not over. A live one is managed in the portal, and no second one is
 * sold.
 */
export function isLive({ status, counts }: Pick<Subscription, 'status' | 'counts'>): boolean {
  return counts && status !== null && status !== 'incomplete' && !isOver(status);
}

type Known = Pick<Subscription, 'status' | 'counts' | 'missingAt'>;

/** Whether a subscription is live and still known to Stripe. A missing one does not prevent a new sale. */
export function isLiveAndKnown(subscription: Known): boolean {
  return isLive(subscription) && subscription.missingAt === null;
}

/** Whether any of a user's subscriptions is live and still known to Stripe. */
export function anyLiveAndKnown(subscriptions: readonly Known[]): boolean {
  return subscriptions.some(isLiveAndKnown);
}
