import { addSeconds, later } from '../instants.ts';

/**
 * The stacking rule: a grant starts at `max(now, creditUntil)` (design: rule 4).
 *
 * @param now the instant of the grant, UTC
 * @param creditUntil null when there never was any credit
 * @returns when credit now runs out
 */
export function stackCredit(now: Date, creditUntil: Date | null, seconds: number): Date {
  return addSeconds(later(now, creditUntil), seconds);
}
