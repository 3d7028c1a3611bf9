import { creditLeft } from '../credits/balance.ts';
import type { OutboxItem, User } from '../db/generated/client.ts';
import { DAYS_ARE_NO_NEWS, DAYS_GIVEN_BACK, DAYS_TAKEN_BACK, LOSS_IS_NO_NEWS } from './days-mail.ts';
import type { MailFacts } from './facts.ts';
import { canBeTurnedOff } from './kinds.ts';
import type { MailWork } from './kinds.ts';
import { pendingAddress } from './links.ts';

const HAS_PLAN = 'The user has a plan.';

/**
 * Decides whether to drop an email because what it says is no longer true, is no news, or is no longer wanted.
 *
 * @param item `address`: the recipient that was fixed when the email was queued; null means the account's current
 *   address
 * @param facts as they are now
 * @returns the reason, for the operator; null when the email is to be sent
 */
export function whyDrop(
  work: MailWork,
  { address }: Pick<OutboxItem, 'address'>,
  facts: MailFacts,
  now: Date,
): string | null {
  const { user } = facts;
  if (address === null && (user?.email ?? null) === null) return 'There is no address to send it to.';
  if (work.kind === 'mail.operator' || work.kind === 'mail.account-deleted') return null;
  if (!user) return 'There is no such account.';
  // Sent even if the account has since been deleted: the notice to a former address, and a reset link, which passes to the
  // next account that signs up with the address (reset-links-of-address.ts).
  const outlives = work.kind === 'mail.address-changed' || work.kind === 'mail.reset-password';
  if (user.deletedAt && !outlives) return 'The account was deleted.';
  if (user.mailOff && canBeTurnedOff(work.kind)) return 'The owner of the account has turned such mail off.';
  return whyUntrue(work, address, facts, user, now);
}

function whyUntrue(
  work: MailWork,
  address: string | null,
  { referral, thinksToHaveDays, invoicePaid, plan }: MailFacts,
  user: User,
  now: Date,
): string | null {
  switch (work.kind) {
    case 'mail.address-changing':
      return user.email === address && pendingAddress(user, now) === null
        ? 'The change is no longer pending.'
        : null;
    case 'mail.days-granted':
    case 'mail.days-restored':
      if (!referral?.convertedAt || referral.reversedAt) return DAYS_TAKEN_BACK;
      return thinksToHaveDays === true ? DAYS_ARE_NO_NEWS : null;
    case 'mail.days-reversed':
      if (!referral?.reversedAt) return DAYS_GIVEN_BACK;
      return thinksToHaveDays === false ? LOSS_IS_NO_NEWS : null;
    case 'mail.days-running':
      if (user.tier !== 'free') return HAS_PLAN;
      return creditLeft(user, now) > 0 ? null : 'No days are left.';
    case 'mail.days-ending':
      return (
        whyEndIsStale(work.data.until, user) ?? (creditLeft(user, now) > 0 ? null : 'The days have ended.')
      );
    case 'mail.days-ended':
      return whyEndIsStale(work.data.until, user);
    case 'mail.payment-failed':
      if (plan === 'another') return 'The user has another plan.';
      return invoicePaid ? 'The invoice was paid.' : null;
    default:
      return null;
  }
}

function whyEndIsStale(until: string, { tier, creditUntil }: User): string | null {
  if (tier !== 'free') return HAS_PLAN;
  return creditUntil?.getTime() === Date.parse(until) ? null : 'The days end at another time.';
}
