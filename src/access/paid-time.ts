import type { Subscription } from '../db/generated/client.ts';
import { later } from '../instants.ts';
import { tierOf } from './tier.ts';
import type { Tier } from './tier.ts';

/** Since when a subscription gives what it gives, a paid tier or none: the two columns of its row (design: rule 8). */
export type PaidTime = Pick<Subscription, 'givesSince' | 'gaveOtherwiseAt'>;

/** What is known of a subscription at one point of its history. */
export interface Known extends PaidTime {
  /** It gives a paid tier. */
  paid: boolean;
  /** event.created of the newest snapshot. */
  snapshotAt: Date | null;
}

/** What one snapshot says. */
export interface Heard {
  /** The subscription gives a paid tier. */
  paid: boolean;
  /** The snapshot's event.created. */
  at: Date;
}

/**
 * @param row a subscription's row
 * @returns what it says of its paid time; null when no snapshot of it is known
 */
export function knownOf(row: Subscription): Known | null {
  if (row.status === null) return null;
  const { givesSince, gaveOtherwiseAt, snapshotAt } = row;
  return { paid: tierOf(row) === 'paid', givesSince, gaveOtherwiseAt, snapshotAt };
}

/**
 * Takes one more snapshot into account, whenever it is heard. Two instants are kept, not a whole history: when a late
 * snapshot splits a stretch in two, its second part counts from the newest snapshot, which is the later end of the two
 * that are possible.
 *
 * @param known what was known before; null when this is the first snapshot
 * @param heard what the snapshot says
 * @param isNewest whether the row takes it over
 * @returns what is known now
 */
export function afterSnapshot(known: Known | null, heard: Heard, isNewest: boolean): Known {
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
 * A past due subscription gives a paid tier exactly while its payment is proven. When the proof comes, it does so from
 * the event that brought the proof; when the proof turns out to be none, it never has since it is past due.
 *
 * @param known what was known before
 * @param pastDueSince since when it is past due
 * @param at event.created of what changed the proof
 * @returns what is known now
 */
export function afterProof(known: Known, pastDueSince: Date | null, at: Date): Known {
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
 * When a user's tier turned into what their subscriptions now give (design: rule 8): they began to pay with the first of
 * the subscriptions that make them paid, and ceased with the last end of all that ever did.
 *
 * @param subscriptions all subscriptions of all of the user's customers
 * @param tier what they give
 * @returns the instant, by Stripe's clock; null when none of them says
 */
export function turnedAt(subscriptions: readonly Subscription[], tier: Tier): Date | null {
  if (tier !== 'paid') return latest(subscriptions.map(endOf));
  const paying = subscriptions.filter((subscription) => tierOf(subscription) === 'paid');
  return earliest(paying.map(({ givesSince }) => givesSince));
}

/** When a subscription stopped making its user paid; null when it never made them paid. */
function endOf({ givesSince, gaveOtherwiseAt, provenAt, endedAt }: Subscription): Date | null {
  // A payment proves that it gave a paid tier, though we may never have heard the snapshot that said so.
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
