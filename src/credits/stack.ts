/** A day of credit is 86 400 s, always: no calendar, no time zone (design: rule 4). */
export const DAY_SECONDS = 86_400;

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

/**
 * @param a an instant
 * @param b another one, or null for none
 * @returns the later of the two
 */
export function later(a: Date, b: Date | null): Date {
  return b !== null && b > a ? b : a;
}

/**
 * @param instant any instant
 * @param seconds how much later; negative for earlier
 * @returns the instant that much later
 */
export function addSeconds(instant: Date, seconds: number): Date {
  return new Date(instant.getTime() + seconds * 1000);
}

/**
 * @param from an instant
 * @param to another one
 * @returns the seconds between them; negative when `to` is the earlier one
 */
export function secondsBetween(from: Date, to: Date): number {
  return (to.getTime() - from.getTime()) / 1000;
}
