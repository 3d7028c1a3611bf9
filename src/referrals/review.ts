import type { Cause } from '../audit.ts';
import { restoreCredit, reverseCredit } from '../credits/ledger.ts';
import { need } from '../db/answers.ts';
import type { ReferralRow, UserRow } from '../db/rows.ts';
import type { Unit } from '../db/unit-of-work.ts';
import { restorations, reversals } from '../metrics.ts';
import type { ReversalReason } from '../outbox/kinds.ts';
import { convertReferral, referrerOf } from './convert.ts';
import { tellSide } from './tell.ts';

/** What the facts say of a user's payments. */
export interface PaymentVerdict {
  /** A payment was made. */
  proven: boolean;
  /** Why no subscription holds (`holds` in access/money-back.ts); null while one does. */
  lost: ReversalReason | null;
}

/**
 * Makes a user's referral match the facts, in whatever order they came: it converts with the first proof of payment,
 * and is reversed exactly while no subscription holds (design: rule 9). Call it for every new fact that bears on
 * that. The unit of work must hold the locks of the referred user and the referrer.
 *
 * @returns null when nobody referred the user
 */
export function reviewReferral(
  tx: Unit,
  user: UserRow,
  { proven, lost }: PaymentVerdict,
  cause: Cause,
): ReferralRow | null {
  const holds = lost === null;
  const referral = proven ? convertReferral(tx, user) : (tx.rows.referrals.get(user.id) ?? null);
  const isReversed = referral?.reversedAt != null;
  if (!referral?.convertedAt || holds !== isReversed) return referral;

  const [move, count] = holds ? [restoreCredit, restorations] : [reverseCredit, reversals];
  // A referrer who still exists also existed at the conversion and was credited then.
  const both = [tx.rows.users.get(user.id) ?? user, referrerOf(tx, referral)].filter((one) => one !== null);
  need(
    tx,
    'ledgers',
    both.map(({ id }) => id),
  );
  for (const one of both) {
    const seconds = move(tx, one, referral.id, cause);
    if (holds) tellSide(tx, one, referral, { kind: 'mail.days-restored', seconds });
    else tellSide(tx, one, referral, { kind: 'mail.days-reversed', seconds, because: lost });
  }
  tx.afterCommit(() => {
    count.inc();
  });
  const after = { ...referral, reversedAt: holds ? null : tx.now };
  tx.rows.referrals.set(user.id, after);
  return after;
}
