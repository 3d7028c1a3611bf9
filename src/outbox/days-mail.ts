import type { OutboxItem } from '../db/generated/client.ts';
import type { MailWork } from './kinds.ts';

/** Mail about the days of a referral. */
export const ABOUT_DAYS = ['mail.days-granted', 'mail.days-reversed', 'mail.days-restored'] as const;

export type DaysMail = Extract<MailWork, { kind: (typeof ABOUT_DAYS)[number] }>;

export function isDaysMail(work: MailWork): work is DaysMail {
  return ABOUT_DAYS.some((kind) => kind === work.kind);
}

/** Why an email about days is dropped: it is no longer true, or it is no news. */
export const DAYS_TAKEN_BACK = 'The days were taken back.';
export const DAYS_GIVEN_BACK = 'The days were given back.';
export const LOSS_IS_NO_NEWS = 'The email about the grant or return of these days was not sent either.';
export const DAYS_ARE_NO_NEWS = 'The user already knows that they have these days.';

type Settled = Pick<OutboxItem, 'kind' | 'status' | 'error'>;

/**
 * Decides from the older emails about the same days whether their reader thinks that they have these days. Old rows may
 * have been pruned. Then the kind of the first email that is left decides: days are taken only from somebody who had them,
 * and given back only to somebody who had none.
 *
 * @param kind of the email that is to be sent
 * @param older emails to the same user, oldest first. None of them is queued
 * @returns null when we cannot tell
 */
export function thinksToHaveDays(kind: string, older: readonly Settled[]): boolean | null {
  const first = older[0]?.kind ?? kind;
  return older.reduce<boolean | null>(afterMail, first === 'mail.days-reversed');
}

function afterMail(thinks: boolean | null, { kind, status, error }: Settled): boolean | null {
  if (status === 'done') return kind !== 'mail.days-reversed';
  switch (error) {
    case DAYS_ARE_NO_NEWS:
      return true;
    case LOSS_IS_NO_NEWS:
      return false;
    case DAYS_TAKEN_BACK:
    case DAYS_GIVEN_BACK:
      return thinks;
    default:
      // A failed email may have arrived. Somebody who had turned mail off may have seen their days in Settings.
      return null;
  }
}
