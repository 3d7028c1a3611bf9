import { DAY_SECONDS } from './instants.ts';

const LONG_DATE = new Intl.DateTimeFormat('en-GB', { dateStyle: 'long', timeZone: 'UTC' });

/** "1 day", "2 days". */
export function counted(count: number, one: string, many = `${one}s`): string {
  return `${count} ${count === 1 ? one : many}`;
}

/** Somebody else's message with a full stop at its end, so that another sentence can follow. */
export function sentence(message: string): string {
  return message.trim().replace(/\.?$/, '.');
}

/** Puts an amount of credit that was given or taken, in seconds, into words: whole days, or "less than a day". */
export function inDays(seconds: number): string {
  const days = Math.round(seconds / DAY_SECONDS);
  return days === 0 ? 'less than a day' : counted(days, 'day');
}

/** Puts the credit that is left, in seconds, into words: days rounded up, as on Settings. */
export function inDaysLeft(seconds: number): string {
  return counted(Math.ceil(seconds / DAY_SECONDS), 'day');
}

/** A date in words, UTC: "26 November 2026". */
export function longDate(instant: Date): string {
  return LONG_DATE.format(instant);
}
