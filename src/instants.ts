/** A day is always 86,400 s: no calendar, no time zone. */
export const DAY_SECONDS = 86_400;

export function later(a: Date, b: Date | null): Date {
  return b !== null && b > a ? b : a;
}

export function addSeconds(instant: Date, seconds: number): Date {
  return new Date(instant.getTime() + seconds * 1000);
}

/** Negative when `to` is earlier. */
export function secondsBetween(from: Date, to: Date): number {
  return (to.getTime() - from.getTime()) / 1000;
}

/** Drops the fraction of a second: Stripe and the ledger count in whole seconds. */
export function wholeSeconds(instant: Date): Date {
  return new Date(Math.floor(instant.getTime() / 1000) * 1000);
}

/** ISO 8601, UTC; without a fraction when it is a whole second. */
export function isoText(instant: Date): string {
  return instant.toISOString().replace('.000Z', 'Z');
}
