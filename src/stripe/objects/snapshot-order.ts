import { TERMINAL_STATUSES } from '../../access/live.ts';
import type { StripeEvent } from './event.ts';
import { readSubscription } from './subscription.ts';
import type { Products, SubscriptionState } from './subscription.ts';

/** What the row of a subscription holds now, as far as it decides which snapshot comes after which. */
export interface HeldSnapshot {
  state: SubscriptionState;
  /** event.created of the newest snapshot. */
  at: Date;
}

/** `later`: it replaces what the row holds. `earlier`: it is stale. `tie`: one second, and they disagree. */
export type Order = 'later' | 'earlier' | 'same' | 'tie';

/**
 * Whether a snapshot comes before or after what the row holds (design: rule 7). Stripe promises no order:
 * https://docs.stripe.com/webhooks#event-ordering
 *
 * @param held what the row holds
 * @param state the snapshot
 * @param created its event.created
 * @returns its place
 */
export function orderSnapshot(held: HeldSnapshot, state: SubscriptionState, created: Date): Order {
  const heldTerminal = TERMINAL_STATUSES.has(held.state.status);
  const terminal = TERMINAL_STATUSES.has(state.status);
  if (heldTerminal !== terminal) return terminal ? 'later' : 'earlier';
  if (created < held.at) return 'earlier';
  if (created > held.at) return 'later';
  return differingFields(held.state, state).length === 0 ? 'same' : 'tie';
}

/**
 * Breaks the tie of two events of one second whose snapshots disagree. `created` comes first always; of two `updated`,
 * B follows A when everything that B says to have changed was, before, as A says.
 *
 * @param a the event whose snapshot the row holds; null when that is not known any more
 * @param b the event that arrived
 * @param products the products whose subscriptions count
 * @returns whether B replaces what the row holds, or 'undecided'
 */
export function breakTie(
  a: StripeEvent | null,
  b: StripeEvent,
  products: Products,
): 'later' | 'earlier' | 'undecided' {
  const isCreated = (event: StripeEvent): boolean => event.type === 'customer.subscription.created';
  if (isCreated(b)) return 'earlier';
  if (a === null) return 'undecided';
  if (isCreated(a)) return 'later';
  const bFollowsA = follows(b, a, products);
  const aFollowsB = follows(a, b, products);
  if (bFollowsA === aFollowsB) return 'undecided';
  return bFollowsA ? 'later' : 'earlier';
}

function follows(second: StripeEvent, first: StripeEvent, products: Products): boolean {
  const after = readSubscription(second.object, products).state;
  // previous_attributes holds the changed fields with their values before: laid over the object, they give it as it was.
  const before = readSubscription({ ...second.object, ...second.previousAttributes }, products).state;
  const claimed = readSubscription(first.object, products).state;
  return differingFields(before, after).every((field) => sameValue(before[field], claimed[field]));
}

/**
 * @param a one state; null for none at all
 * @param b another one
 * @returns the fields in which they differ
 */
export function differingFields(
  a: SubscriptionState | null,
  b: SubscriptionState,
): (keyof SubscriptionState)[] {
  return (Object.keys(b) as (keyof SubscriptionState)[]).filter((field) => !sameValue(a?.[field], b[field]));
}

function sameValue(a: unknown, b: unknown): boolean {
  return a instanceof Date && b instanceof Date ? a.getTime() === b.getTime() : a === b;
}
