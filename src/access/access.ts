import { creditLeft } from '../credits/balance.ts';
import type { Subscription, User } from '../db/generated/client.ts';
import { addSeconds, DAY_SECONDS } from '../instants.ts';

/** Whether a user may use what is paid for, until when, and why. Derived, never stored. */
export interface Access {
  granted: boolean;
  /** When the reason ends, as far as that is known now: the period's or the trial's end, or the end of the subscription. */
  until: Date | null;
  reason: 'paid' | 'trial' | 'credit' | null;
}

/** A user's credit in words that a page can use. */
export interface CreditView {
  /** When credit would run out if it ran from now on; null when none is left. */
  creditUntil: Date | null;
  /** There is some, and it stands still. */
  creditHeld: boolean;
  /** Days left, rounded up. */
  creditDays: number;
}

/**
 * @param user the user's row
 * @param now the instant, UTC
 * @returns the credit they have at that instant
 */
export function creditView(user: Pick<User, 'creditUntil' | 'creditHeldAt'>, now: Date): CreditView {
  const left = creditLeft(user, now);
  return {
    creditUntil: left > 0 ? addSeconds(now, left) : null,
    creditHeld: left > 0 && user.creditHeldAt !== null,
    creditDays: Math.ceil(left / DAY_SECONDS),
  };
}

/**
 * @param user the user's row
 * @param subscription the subscription that gives their tier, if any
 * @param now the instant, UTC
 * @returns the access they have at that instant
 */
export function accessOf(
  user: Pick<User, 'tier' | 'creditUntil' | 'creditHeldAt'>,
  subscription: Pick<Subscription, 'currentPeriodEnd' | 'trialEnd' | 'cancelAt'> | null,
  now: Date,
): Access {
  const { currentPeriodEnd = null, trialEnd = null, cancelAt = null } = subscription ?? {};
  if (user.tier === 'paid') return { granted: true, until: cancelAt ?? currentPeriodEnd, reason: 'paid' };
  if (user.tier === 'trial') {
    const endsEarlier = cancelAt !== null && (trialEnd === null || cancelAt < trialEnd);
    return { granted: true, until: endsEarlier ? cancelAt : trialEnd, reason: 'trial' };
  }
  const { creditUntil } = creditView(user, now);
  return { granted: creditUntil !== null, until: creditUntil, reason: creditUntil && 'credit' };
}
