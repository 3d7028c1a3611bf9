import { addSeconds, later } from '../instants.ts';

/**
 * Stacking, the one rule by which credit grows: a grant starts at `max(now, creditUntil)` (design: rule 4).
 *
 * @param now the instant of the grant, UTC
 * @param creditUntil when the credit so far runs out; null when there never was any
 * @param seconds how much is granted
 * @returns when the credit runs out with the grant
 */
export function stackCredit(now: Date, creditUntil: Date | null, seconds: number): Date {
  return addSeconds(later(now, creditUntil), seconds);
}
