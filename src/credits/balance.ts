import { addSeconds, secondsBetween } from '../instants.ts';
import { stackCredit } from './stack.ts';

/** A user's credit: these two columns give what is left at any instant (design: rule 8). */
export interface CreditBalance {
  /**
   * When credit runs out; while held, when it would have run out if it had continued at `creditHeldAt`. Null: the
   * user never had any.
   */
  creditUntil: Date | null;
  /**
   * Null while credit runs. While it is held, the instant from which `creditUntil` counts: when the hold began, or the
   * latest grant, reversal or restoration since.
   */
  creditHeldAt: Date | null;
}

/** Seconds of credit left at an instant. */
export function creditLeft(balance: CreditBalance, at: Date): number {
  if (balance.creditUntil === null) return 0;
  return Math.max(0, secondsBetween(balance.creditHeldAt ?? at, balance.creditUntil));
}

/** Holds credit from `at` on. */
export function held(balance: CreditBalance, at: Date): CreditBalance {
  return { creditUntil: balance.creditUntil, creditHeldAt: at };
}

/** Lets credit run again from `at` on, with what was left. */
export function resumed(balance: CreditBalance, at: Date): CreditBalance {
  return { creditUntil: settled(balance, at).creditUntil, creditHeldAt: null };
}

/** Adds seconds by the stacking rule. */
export function granted(balance: CreditBalance, at: Date, seconds: number): CreditBalance {
  const { creditUntil, creditHeldAt } = settled(balance, at);
  return { creditUntil: stackCredit(at, creditUntil, seconds), creditHeldAt };
}

/** Removes seconds. The caller makes sure that they are left. */
export function taken(balance: CreditBalance, at: Date, seconds: number): CreditBalance {
  const { creditUntil, creditHeldAt } = settled(balance, at);
  return { creditUntil: creditUntil && addSeconds(creditUntil, -seconds), creditHeldAt };
}

/** Moves held credit to `at` without changing how much is left (design: rule 8). */
function settled(balance: CreditBalance, at: Date): CreditBalance {
  if (balance.creditHeldAt === null) return balance;
  const creditUntil = balance.creditUntil && addSeconds(at, creditLeft(balance, at));
  return { creditUntil, creditHeldAt: at };
}
