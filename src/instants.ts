/** A day is 86 400 s, always: no calendar, no time zone. */
export const DAY_SECONDS = 86_400;

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

/**
 * @param instant any instant
 * @returns it without its fraction of a second: the grain in which Stripe and the ledger count
 */
export function wholeSeconds(instant: Date): Date {
  return new Date(Math.floor(instant.getTime() / 1000) * 1000);
}

/**
 * @param instant any instant
 * @returns it in ISO 8601, UTC; without a fraction when it is a whole second
 */
export function isoText(instant: Date): string {
  return instant.toISOString().replace('.000Z', 'Z');
}
