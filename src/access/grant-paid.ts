import { writeAudit } from '../audit.ts';
import type { Cause } from '../audit.ts';
import { creditLeft } from '../credits/balance.ts';
import { holdCredit, resumeCredit } from '../credits/ledger.ts';
import type { UserRow } from '../db/rows.ts';
import type { Unit } from '../db/unit-of-work.ts';
import { queue } from '../outbox/queue.ts';
import type { Tier } from './tier.ts';

/** What changes a tier, and when it did so by Stripe's clock. The ledger clamps that instant (design: rule 8). */
export type TierCause = Cause & { at: Date };

/**
 * Makes a user paid: flips the tier, writes the audit row, and lets their credit stand still from when they
 * began to pay. A user who is paid already is left alone: a renewal changes nothing.
 *
 * @param tx the unit of work, which holds the user's lock
 * @param user the user
 * @param cause what made them paid, and when
 * @returns the user as they are now
 */
export function grantPaid(tx: Unit, user: UserRow, cause: TierCause): UserRow {
  const firstPaidTransition = user.tier !== 'paid';
  if (!firstPaidTransition) return user;
  return flipTier(tx, holdCredit(tx, user, cause.id, cause.at), 'paid', cause);
}

/**
 * The mirror of `grantPaid`: the user ceases to be paid, and their credit runs again from when they stopped paying. They
 * are told when they have any.
 *
 * @param tx the unit of work, which holds the user's lock
 * @param user the user
 * @param cause what ended it, and when
 * @param tier what they are from now on
 * @returns the user as they are now
 */
export function revokePaid(
  tx: Unit,
  user: UserRow,
  cause: TierCause,
  tier: Exclude<Tier, 'paid'> = 'free',
): UserRow {
  if (user.tier !== 'paid') return user;
  const revoked = flipTier(tx, resumeCredit(tx, user, cause.id, cause.at), tier, cause);
  if (tier === 'free' && !user.deletedAt && creditLeft(revoked, tx.now) > 0)
    queue(tx, { kind: 'mail.days-running', userId: user.id, data: null });
  return revoked;
}

/**
 * Makes a user's tier what their subscriptions say.
 *
 * @param tx the unit of work, which holds the user's lock
 * @param user the user
 * @param tier what the subscriptions say
 * @param cause what changed it
 * @returns the user as they are now
 */
export function setTier(tx: Unit, user: UserRow, tier: Tier, cause: TierCause): UserRow {
  if (user.tier === tier) return user;
  if (tier === 'paid') return grantPaid(tx, user, cause);
  if (user.tier === 'paid') return revokePaid(tx, user, cause, tier);
  return flipTier(tx, user, tier, cause);
}

function flipTier(tx: Unit, user: UserRow, tier: Tier, { id, actor }: TierCause): UserRow {
  writeAudit(tx, { id, actor }, [{ userId: user.id, kind: 'tier', fromTier: user.tier, toTier: tier }]);
  const flipped = { ...user, tier };
  tx.rows.users.set(user.id, flipped);
  return flipped;
}
