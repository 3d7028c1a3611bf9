import { stackCredit } from './stack.ts';
import { addSeconds, later, secondsBetween } from '../instants.ts';

/** A user's credit: the two columns, and all that can be said of it at an instant (design: rule 8). */
export interface CreditBalance {
  /** When credit runs out; while held, when it would have run out at `creditHeldAt`. Null: never had any. */
  creditUntil: Date | null;
  /** Since when it stands still, because the user pays; null while it runs. */
  creditHeldAt: Date | null;
}

/**
 * @param balance the credit
 * @param at an instant, UTC
 * @returns the seconds of credit left at that instant
 */
export function creditLeft(balance: CreditBalance, at: Date): number {
  if (balance.creditUntil === null) return 0;
  return Math.max(0, secondsBetween(balance.creditHeldAt ?? at, balance.creditUntil));
}

/** Credit stands still from `at` on. */
export function held(balance: CreditBalance, at: Date): CreditBalance {
  return { creditUntil: balance.creditUntil, creditHeldAt: at };
}

/** Credit runs again from `at` on: what was left is left. */
export function resumed(balance: CreditBalance, at: Date): CreditBalance {
  return { creditUntil: settled(balance, at).creditUntil, creditHeldAt: null };
}

/** `seconds` more, by the rule of stacking. */
export function granted(balance: CreditBalance, at: Date, seconds: number): CreditBalance {
  const { creditUntil, creditHeldAt } = settled(balance, at);
  return { creditUntil: stackCredit(at, creditUntil, seconds), creditHeldAt };
}

/** `seconds` less; they must be left. */
export function taken(balance: CreditBalance, at: Date, seconds: number): CreditBalance {
  const { creditUntil, creditHeldAt } = settled(balance, at);
  return { creditUntil: creditUntil && addSeconds(creditUntil, -seconds), creditHeldAt };
}

/** Writes held credit anew as seen from `at`, so that what is left counts from there. */
function settled(balance: CreditBalance, at: Date): CreditBalance {
  if (balance.creditHeldAt === null) return balance;
  const creditUntil = balance.creditUntil && addSeconds(at, creditLeft(balance, at));
  return { creditUntil, creditHeldAt: later(at, balance.creditHeldAt) };
}
