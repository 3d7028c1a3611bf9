/** The intervals in which the sandbox's prices recur. */
export type Interval = 'month' | 'year';

/** Seconds in a day; trials are whole days, whatever the calendar does. */
export const DAY = 86_400;

/** Seconds in an hour. */
export const HOUR = 3600;

/**
 * @param date an instant
 * @returns the same instant in whole epoch seconds, as Stripe writes times
 */
export function toEpoch(date: Date): number {
  return Math.floor(date.getTime() / 1000);
}

/**
 * Finds when the period that starts at `start` ends. Periods are counted from the billing anchor, not from the
 * period before: a plan of 31 January renews on 28 February and then on 31 March, not on 28 March.
 * See https://docs.stripe.com/billing/subscriptions/billing-cycle
 *
 * @param anchor epoch seconds of the billing cycle anchor
 * @param interval what a period lasts
 * @param start epoch seconds at which the period starts, not before the anchor
 * @returns epoch seconds of the first renewal after `start`
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
 * Adds calendar months in UTC; a day that the target month lacks becomes its last day.
 *
 * @param epoch epoch seconds
 * @param months how many, at least 0
 * @returns epoch seconds, at the same time of day
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
