import { writeAudit } from '../audit.ts';
import type { Cause } from '../audit.ts';
import { holdCredit, resumeCredit } from '../credits/ledger.ts';
import type { CreditColumns } from '../credits/ledger.ts';
import type { User } from '../db/generated/client.ts';
import type { Tx } from '../db/transaction.ts';
import type { Tier } from './tier.ts';

/** What changes a tier, and when it did so by Stripe's clock. The ledger clamps that instant (design: rule 8). */
export type TierCause = Cause & { at: Date };

/**
 * Makes a user paid: flips the tier, writes the audit row, and lets their credit stand still from when they
 * began to pay. A user who is paid already is left alone: a renewal changes nothing.
 *
 * @param tx the open transaction
 * @param user the locked user
 * @param cause what made them paid, and when
 * @returns the user's row as it is now
 */
export async function grantPaid(tx: Tx, user: User, cause: TierCause): Promise<User> {
  const firstPaidTransition = user.tier !== 'paid';
  if (!firstPaidTransition) return user;
  return flipTier(tx, user, 'paid', cause, await holdCredit(tx, user, cause.id, cause.at));
}

/**
 * The mirror of `grantPaid`: the user ceases to be paid, and their credit runs again from when they stopped paying.
 *
 * @param tx the open transaction
 * @param user the locked user
 * @param cause what ended it, and when
 * @param tier what they are from now on
 * @returns the user's row as it is now
 */
export async function revokePaid(
  tx: Tx,
  user: User,
  cause: TierCause,
  tier: Exclude<Tier, 'paid'> = 'free',
): Promise<User> {
  if (user.tier !== 'paid') return user;
  return flipTier(tx, user, tier, cause, await resumeCredit(tx, user, cause.id, cause.at));
}

/**
 * Makes a user's tier what their subscriptions say.
 *
 * @param tx the open transaction
 * @param user the locked user
 * @param tier what the subscriptions say
 * @param cause what changed it
 * @returns the user's row as it is now
 */
export async function setTier(tx: Tx, user: User, tier: Tier, cause: TierCause): Promise<User> {
  if (user.tier === tier) return user;
  if (tier === 'paid') return grantPaid(tx, user, cause);
  if (user.tier === 'paid') return revokePaid(tx, user, cause, tier);
  return flipTier(tx, user, tier, cause);
}

async function flipTier(
  tx: Tx,
  user: User,
  tier: Tier,
  cause: TierCause,
  credit?: CreditColumns,
): Promise<User> {
  await writeAudit(tx, { id: cause.id, actor: cause.actor }, [
    { userId: user.id, kind: 'tier', fromTier: user.tier, toTier: tier },
  ]);
  const flipped = { ...user, tier, ...credit };
  await tx.$executeRaw`
    UPDATE "User" SET "tier" = ${tier}, "creditUntil" = ${flipped.creditUntil},
      "creditHeldAt" = ${flipped.creditHeldAt}, "creditEntryCount" = ${flipped.creditEntryCount},
      "creditEntryAt" = ${flipped.creditEntryAt}
    WHERE "id" = ${user.id}`;
  return flipped;
}
