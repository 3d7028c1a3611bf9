import { writeAudit } from '../audit.ts';
import type { Cause } from '../audit.ts';
import { creditLeft } from '../credits/balance.ts';
import { holdCredit, resumeCredit } from '../credits/ledger.ts';
import type { UserRow } from '../db/rows.ts';
import type { Unit } from '../db/unit-of-work.ts';
import { queue } from '../outbox/queue.ts';
import type { Tier } from './tier.ts';

/**
 * The cause of a tier change. `at` is Stripe's time of the change, or ours if Stripe names none; the ledger clamps it
 * (design: rule 8).
 */
export type TierCause = Cause & { at: Date };

/**
 * Makes a user paid: changes the tier, writes the audit row and holds their credit from the moment they began to pay.
 * Does nothing if the user is paid already. The unit of work must hold the user's lock.
 */
export function grantPaid(tx: Unit, user: UserRow, cause: TierCause): UserRow {
  const firstPaidTransition = user.tier !== 'paid';
  if (!firstPaidTransition) return user;
  return flipTier(tx, holdCredit(tx, user, cause.id, cause.at), 'paid', cause);
}

/**
 * The mirror of `grantPaid`: the user is no longer paid, and their credit runs from the moment they stopped paying. If
 * they are free now and have credit left, an email tells them. Does nothing if the user is not paid. The unit of work
 * must hold the user's lock.
 *
 * @param tier the new tier
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

/** Sets the tier that the user's subscriptions give. */
export function setTier(tx: Unit, user: UserRow, tier: Tier, cause: TierCause): UserRow {
  if (user.tier === tier) return user;
  if (tier === 'paid') return grantPaid(tx, user, cause);
  if (user.tier === 'paid') return revokePaid(tx, user, cause, tier);
  return flipTier(tx, user, tier, cause);
}

function flipTier(tx: Unit, user: UserRow, tier: Tier, cause: TierCause): UserRow {
  writeAudit(tx, cause, { userId: user.id, kind: 'tier', fromTier: user.tier, toTier: tier });
  const flipped = { ...user, tier };
  tx.rows.users.set(user.id, flipped);
  return flipped;
}
