import type { Subscription } from '../db/generated/client.ts';
import { later } from '../instants.ts';
import { tierOf } from './tier.ts';
import type { Tier } from './tier.ts';

/**
 * When a subscription last started or stopped giving a paid tier, and the latest time before that when it is known to
 * have been in the other state (design: rule 8).
 */
export type PaidTime = Pick<Subscription, 'givesSince' | 'gaveOtherwiseAt'>;

/** What we know of a subscription's paid time at one point of its history. */
export interface PaidTimeSoFar extends PaidTime {
  /** It gives a paid tier. */
  paid: boolean;
  /** event.created of the newest snapshot. */
  snapshotAt: Date | null;
}

/** What one snapshot says. */
export interface PaidSnapshot {
  /** The subscription gives a paid tier. */
  paid: boolean;
  /** The snapshot's event.created. */
  at: Date;
}

/** @returns null when no snapshot is known */
export function knownOf(row: Subscription): PaidTimeSoFar | null {
  if (row.status === null) return null;
  const { givesSince, gaveOtherwiseAt, snapshotAt } = row;
  return { paid: tierOf(row) === 'paid', givesSince, gaveOtherwiseAt, snapshotAt };
}

/**
 * Applies one more snapshot, in whatever order it arrives. Only two instants are kept, not a whole history: if a
 * late snapshot shows that a stretch was interrupted, we do not know when it resumed, and take the time of the newest
 * snapshot, the latest possible.
 *
 * @param known null when this is the first snapshot
 * @param isNewest whether this snapshot becomes the row's state
 */
export function afterSnapshot(
  known: PaidTimeSoFar | null,
  heard: PaidSnapshot,
  isNewest: boolean,
): PaidTimeSoFar {
  const { paid, at } = heard;
  if (known?.givesSince == null) return { paid, givesSince: at, gaveOtherwiseAt: null, snapshotAt: at };

  const { givesSince, gaveOtherwiseAt } = known;
  const snapshotAt = isNewest ? at : known.snapshotAt;
  const isOfThisStretch = gaveOtherwiseAt === null || at > gaveOtherwiseAt;
  if (paid === known.paid) {
    return { ...known, snapshotAt, givesSince: isOfThisStretch && at < givesSince ? at : givesSince };
  }
  if (isNewest) return { paid, givesSince: at, gaveOtherwiseAt: known.snapshotAt, snapshotAt };
  if (!isOfThisStretch) return known;
  return {
    ...known,
    gaveOtherwiseAt: at,
    givesSince: at < givesSince ? givesSince : (known.snapshotAt ?? givesSince),
  };
}

/**
 * Applies a change of the proof to a past due subscription, which gives a paid tier only while payment is proven. A
 * new proof counts from the event that brought it. If the proof falls away, the subscription has given nothing since
 * it became past due.
 *
 * @param at event.created of what changed the proof
 */
export function afterProof(known: PaidTimeSoFar, pastDueSince: Date | null, at: Date): PaidTimeSoFar {
  if (known.paid) {
    const givesSince = pastDueSince ?? known.givesSince;
    return { ...known, paid: false, givesSince, gaveOtherwiseAt: known.givesSince };
  }
  const wasUnproven = pastDueSince !== null && at > pastDueSince;
  return {
    ...known,
    paid: true,
    givesSince: later(at, pastDueSince),
    gaveOtherwiseAt: wasUnproven ? pastDueSince : null,
  };
}

/**
 * When the user's tier became what their subscriptions now give (design: rule 8). A user begins to pay with the first
 * of the subscriptions that make them paid, and stops with the latest end of all that ever did.
 *
 * @param subscriptions all subscriptions of all of the user's customers
 * @returns null when no subscription shows it
 */
export function turnedAt(subscriptions: readonly Subscription[], tier: Tier): Date | null {
  if (tier !== 'paid') return latest(subscriptions.map(endOf));
  const paying = subscriptions.filter((subscription) => tierOf(subscription) === 'paid');
  return earliest(paying.map(({ givesSince }) => givesSince));
}

/** When a subscription stopped making its user paid; null if it never made them paid. */
function endOf({ givesSince, gaveOtherwiseAt, provenAt, endedAt }: Subscription): Date | null {
  // A payment proves a paid tier even if we never received the snapshot that said so.
  const everPaid = gaveOtherwiseAt !== null || provenAt !== null;
  return everPaid ? earliest([givesSince, endedAt]) : null;
}

function earliest(instants: readonly (Date | null)[]): Date | null {
  return sorted(instants).at(0) ?? null;
}

function latest(instants: readonly (Date | null)[]): Date | null {
  return sorted(instants).at(-1) ?? null;
}

function sorted(instants: readonly (Date | null)[]): Date[] {
  return instants.filter((instant) => instant !== null).sort((a, b) => a.getTime() - b.getTime());
}
