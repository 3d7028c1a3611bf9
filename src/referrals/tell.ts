import type { ReferralRow, UserRow } from '../db/rows.ts';
import type { Unit } from '../db/unit-of-work.ts';
import type { OutboxKinds } from '../outbox/kinds.ts';
import { queue } from '../outbox/queue.ts';

/** What a referral's mails are about. */
type About = 'mail.days-granted' | 'mail.days-reversed' | 'mail.days-restored';

/** What each of them takes back, when both would leave together. */
const UNDOES: Readonly<Partial<Record<About, About>>> = {
  'mail.days-reversed': 'mail.days-granted',
  'mail.days-restored': 'mail.days-reversed',
};

/**
 * Queues a mail to one side of a referral about what became of its days. Days that came and went in one transaction are
 * told to nobody (design: rule 9): then the mail about the first is taken out, and none is queued about the second.
 *
 * @param tx the unit of work
 * @param user the side that is told
 * @param referral the referral
 * @param kind what became of the days
 * @param seconds how many seconds were moved; with none there is nothing to tell
 */
export function tellSide(
  tx: Unit,
  user: UserRow,
  { id: referralId, referredId }: ReferralRow,
  kind: About,
  seconds: number,
): void {
  const { rows } = tx;
  const undone = rows.outbox.find(
    (item) =>
      item.kind === UNDOES[kind] &&
      item.userId === user.id &&
      (JSON.parse(item.data) as OutboxKinds[About]).referralId === referralId,
  );
  if (undone) {
    rows.outbox = rows.outbox.filter((item) => item !== undone);
    return;
  }
  const side = user.id === referredId ? 'referred' : 'referrer';
  if (seconds > 0) queue(tx, { kind, userId: user.id, data: { referralId, side, seconds } });
}
