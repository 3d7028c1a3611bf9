import { creditLeft } from '../credits/balance.ts';
import type { User } from '../db/generated/client.ts';
import type { MailFacts } from './facts.ts';
import { canBeTurnedOff } from './kinds.ts';
import type { MailWork } from './kinds.ts';

/**
 * Whether a mail is to be dropped when its turn comes, because what it says is no longer true or no longer wanted.
 *
 * @param work the mail
 * @param facts as they are now
 * @param now the instant, UTC
 * @returns why, for the operator; null when it is to be sent
 */
export function whyDrop(work: MailWork, facts: MailFacts, now: Date): string | null {
  const { user } = facts;
  if (work.kind === 'mail.operator') return null;
  if (!user) return 'There is no such account.';
  // The rest goes to an address that it brings along.
  if (work.kind === 'mail.account-deleted') return null;
  if (user.deletedAt) return 'The account was deleted.';
  if (user.mailOff && canBeTurnedOff(work.kind)) return 'The owner of the account does not want such mail.';
  return whyUntrue(work, facts, user, now);
}

function whyUntrue(
  work: MailWork,
  { referral, invoicePaid }: MailFacts,
  user: User,
  now: Date,
): string | null {
  switch (work.kind) {
    case 'mail.days-granted':
    case 'mail.days-restored':
      return referral?.convertedAt && !referral.reversedAt ? null : 'The days were taken back.';
    case 'mail.days-reversed':
      return referral?.reversedAt ? null : 'The days were given back.';
    case 'mail.days-running':
      if (user.tier === 'paid') return 'The user pays again.';
      return creditLeft(user, now) > 0 ? null : 'No days are left.';
    case 'mail.days-ending':
      return (
        whyOtherEnd(work.data.until, user) ?? (creditLeft(user, now) > 0 ? null : 'The days have ended.')
      );
    case 'mail.days-ended':
      return whyOtherEnd(work.data.until, user);
    case 'mail.payment-failed':
      return invoicePaid ? 'The invoice was paid.' : null;
    default:
      return null;
  }
}

function whyOtherEnd(until: string, { tier, creditUntil }: User): string | null {
  if (tier !== 'free') return 'The user has a plan.';
  return creditUntil?.getTime() === Date.parse(until) ? null : 'The days end at another time.';
}
