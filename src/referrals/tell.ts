import type { ReferralRow, UserRow } from '../db/rows.ts';
import type { Unit } from '../db/unit-of-work.ts';
import type { OutboxKinds, ReversalReason } from '../outbox/kinds.ts';
import { queue } from '../outbox/queue.ts';

/** What happened to one side's days, and how many seconds were moved. */
type Told =
  | { kind: 'mail.days-granted' | 'mail.days-restored'; seconds: number }
  | { kind: 'mail.days-reversed'; seconds: number; because: ReversalReason };

/** For each kind of email, the kinds of queued emails that it makes untrue. */
const UNDOES: Readonly<Record<Told['kind'], readonly Told['kind'][]>> = {
  'mail.days-granted': [],
  'mail.days-reversed': ['mail.days-granted', 'mail.days-restored'],
  'mail.days-restored': ['mail.days-reversed'],
};

/**
 * Queues an email to one side of a referral about their days. Days that came and went in one transaction are not
 * mentioned: the email about the first change is taken out, and none is queued about the second.
 */
export function tellSide(
  tx: Unit,
  user: UserRow,
  { id: referralId, referredId }: ReferralRow,
  told: Told,
): void {
  const { rows } = tx;
  const undone = rows.outbox.find(
    (item) =>
      UNDOES[told.kind].some((kind) => kind === item.kind) &&
      item.userId === user.id &&
      (JSON.parse(item.data) as OutboxKinds[Told['kind']]).referralId === referralId,
  );
  if (undone) {
    rows.outbox = rows.outbox.filter((item) => item !== undone);
    return;
  }
  const { seconds } = told;
  if (seconds === 0) return;
  const side = user.id === referredId ? 'referred' : 'referrer';
  const data = { referralId, side, seconds } as const;
  // Nobody was told of days that were granted in this transaction, so an email must not say that they came back.
  const isNew = rows.entries.some(
    (entry) => entry.kind === 'grant' && entry.userId === user.id && entry.referralId === referralId,
  );
  if (told.kind === 'mail.days-reversed') {
    queue(tx, { kind: told.kind, userId: user.id, data: { ...data, because: told.because } });
  } else {
    queue(tx, { kind: isNew ? 'mail.days-granted' : told.kind, userId: user.id, data });
  }
}
