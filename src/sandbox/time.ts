export type Interval = 'month' | 'year';

/** Seconds. Trials are whole days, regardless of the calendar. */
export const DAY = 86_400;

/** Seconds. */
export const HOUR = 3600;

/** Converts to whole epoch seconds, Stripe's format for times. */
export function toEpoch(date: Date): number {
  return Math.floor(date.getTime() / 1000);
}

/**
 * Returns the end of the period that starts at `start`, epoch seconds. Periods are counted from the billing
 * anchor, not from the previous period: a plan that starts on 31 January renews on 28 February and then on 31
 * March, not on 28 March. See https://docs.stripe.com/billing/subscriptions/billing-cycle
 *
 * @param anchor epoch seconds
 * @param start epoch seconds, not before the anchor
 */
export function periodEnd(anchor: number, interval: Interval, start: number): number {
  const months = interval === 'year' ? 12 : 1;
  for (let periods = 1; ; periods += 1) {
    const end = addMonths(anchor, periods * months);
    if (end > start) {
      return end;
    }
  }
}

/**
 * Adds calendar months in UTC and keeps the time of day. If the target month is too short, its last day is
 * used.
 *
 * @param epoch epoch seconds
 * @returns epoch seconds
 */
export function addMonths(epoch: number, months: number): number {
  const date = new Date(epoch * 1000);
  const day = date.getUTCDate();
  date.setUTCDate(1);
  date.setUTCMonth(date.getUTCMonth() + months);
  const lastDay = new Date(Date.UTC(date.getUTCFullYear(), date.getUTCMonth() + 1, 0)).getUTCDate();
  date.setUTCDate(Math.min(day, lastDay));
  return toEpoch(date);
}
