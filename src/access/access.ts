import { creditLeft } from '../credits/balance.ts';
import type { Subscription, User } from '../db/generated/client.ts';
import { addSeconds, DAY_SECONDS } from '../instants.ts';

/** Whether a user has paid features, until when, and why. Derived, never stored. */
export interface Access {
  granted: boolean;
  /** When access ends, as far as is known now: with the period, the trial or the credit, or at a scheduled cancellation. */
  until: Date | null;
  reason: 'paid' | 'trial' | 'credit' | null;
}

/** A user's credit, as shown on pages and in the API. */
export interface CreditView {
  /** When credit would run out if it ran from now on; null when none is left. */
  creditUntil: Date | null;
  /** There is credit left and it is held. */
  creditHeld: boolean;
  /** Days left, rounded up. */
  creditDays: number;
}

export function creditView(user: Pick<User, 'creditUntil' | 'creditHeldAt'>, now: Date): CreditView {
  const left = creditLeft(user, now);
  return {
    creditUntil: left > 0 ? addSeconds(now, left) : null,
    creditHeld: left > 0 && user.creditHeldAt !== null,
    creditDays: Math.ceil(left / DAY_SECONDS),
  };
}

/** @param subscription the subscription that gives the user's tier; null when there is none */
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
