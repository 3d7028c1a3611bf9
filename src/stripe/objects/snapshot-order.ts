import { isOver } from '../../access/live.ts';
import type { StripeEvent } from './event.ts';
import { readSubscription } from './subscription-shape.ts';
import type { Products, SubscriptionSnapshot, SubscriptionState } from './subscription-shape.ts';

type Fields = Record<string, unknown>;

/**
 * Two snapshots of the same second differ, and only Stripe knows which one is current. Stripe is asked outside any
 * transaction, and the event is handled again with the answer.
 */
export class UndecidedTie extends Error {
  override name = 'UndecidedTie';
  readonly subscriptionId: string;
  constructor(subscriptionId: string) {
    super(
      `Two snapshots of the subscription ${subscriptionId} were created in the same second and disagree.`,
    );
    this.subscriptionId = subscriptionId;
  }
}

/** Stripe's answer when asked to break a tie; 'unavailable' when it could not be asked. */
export type TieBreaker = SubscriptionSnapshot | 'unavailable';

/** What the subscription's row holds now. */
export interface HeldSnapshot {
  state: SubscriptionState;
  /** event.created of the newest snapshot. */
  at: Date;
}

/**
 * `later`: it replaces the row. `earlier`: it is stale. `same`: the same second and content. `tie`: the same second,
 * but different content.
 */
export type SnapshotOrder = 'later' | 'earlier' | 'same' | 'tie';

/**
 * Whether a snapshot is older or newer than the row (design: rule 7). Stripe does not guarantee order:
 * https://docs.stripe.com/webhooks#event-ordering
 *
 * @param created the snapshot's event.created
 */
export function orderSnapshot(held: HeldSnapshot, state: SubscriptionState, created: Date): SnapshotOrder {
  const heldTerminal = isOver(held.state.status);
  const terminal = isOver(state.status);
  if (heldTerminal !== terminal) return terminal ? 'later' : 'earlier';
  if (created < held.at) return 'earlier';
  if (created > held.at) return 'later';
  return differingFields(held.state, state).length === 0 ? 'same' : 'tie';
}

/**
 * Breaks the tie of two events of the same second whose snapshots differ. `created` always comes first. Of two
 * `updated` events, B follows A if B's previous values equal A's current ones.
 *
 * @param a the event whose snapshot the row holds; null when unknown
 * @param b the event that arrived
 * @returns whether B replaces the row, or 'undecided'
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
  const before = readSubscription(withPrevious(second.object, second.previousAttributes), products).state;
  const claimed = readSubscription(first.object, products).state;
  return differingFields(before, after).every((field) => sameValue(before[field], claimed[field]));
}

/**
 * The object before an update. In `previous_attributes`, a nested object holds only the keys that changed; a list is
 * complete.
 */
function withPrevious(object: Fields, previous: Fields): Fields {
  const before = Object.entries(previous).map(([key, value]) => {
    const now = object[key];
    return [key, isFields(value) && isFields(now) ? withPrevious(now, value) : value] as const;
  });
  return { ...object, ...Object.fromEntries(before) };
}

function isFields(value: unknown): value is Fields {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** The fields that differ; all when `a` is null. */
export function differingFields(
  a: SubscriptionState | null,
  b: SubscriptionState,
): (keyof SubscriptionState)[] {
  return (Object.keys(b) as (keyof SubscriptionState)[]).filter((field) => !sameValue(a?.[field], b[field]));
}

function sameValue(a: unknown, b: unknown): boolean {
  return a instanceof Date && b instanceof Date ? a.getTime() === b.getTime() : a === b;
}
