import { setImmediate as nextTurn } from 'node:timers/promises';

import type { Db } from '../db/transaction.ts';
import { inTransaction } from '../db/transaction.ts';
import { addSeconds, DAY_SECONDS, isoText } from '../instants.ts';
import { idOnce, queueNow } from './queue.ts';
import type { NewItem } from './queue.ts';

/** Remind the owner this long before free days end, s. */
const REMINDER_SECONDS = 7 * DAY_SECONDS;

/** Tell people that their days have ended at most this long afterwards, s. Later, such as after a long outage, say nothing. */
const TELLING_SECONDS = 3 * DAY_SECONDS;

/** Accounts read per query. */
const PAGE = 100;

/**
 * Queues an email to everyone whose free days end within a week or have just ended. Each reminder is sent only
 * once for the same end, however often this runs and on however many servers.
 */
export async function queueReminders(db: Db, now: Date): Promise<void> {
  let after = '';
  for (;;) {
    const users = await db.user.findMany({
      where: {
        id: { gt: after },
        tier: 'free',
        deletedAt: null,
        mailOff: false,
        creditUntil: { gt: addSeconds(now, -TELLING_SECONDS), lte: addSeconds(now, REMINDER_SECONDS) },
      },
      select: { id: true, creditUntil: true, creditEntryAt: true },
      orderBy: { id: 'asc' },
      take: PAGE,
    });
    const items = users.flatMap(({ id, creditUntil, creditEntryAt }) =>
      // Skip days that did not run out: the last ledger entry took them back, or none were left when a plan ended.
      creditUntil && creditEntryAt && creditUntil > creditEntryAt ? [reminder(id, creditUntil, now)] : [],
    );
    await queueNew(db, items, now);
    const last = users.at(-1);
    if (users.length < PAGE || !last) return;
    after = last.id;
    // SQLite answers without yielding.
    await nextTurn();
  }
}

function reminder(userId: string, creditUntil: Date, now: Date): NewItem & { id: string } {
  const kind = creditUntil > now ? 'mail.days-ending' : 'mail.days-ended';
  const until = isoText(creditUntil);
  return { id: idOnce(kind, userId, until), kind, userId, data: { until } };
}

/** Most reminders were queued by an earlier run. If none is new, this writes nothing. */
async function queueNew(db: Db, items: readonly (NewItem & { id: string })[], now: Date): Promise<void> {
  const rows = await db.outboxItem.findMany({
    where: { id: { in: items.map(({ id }) => id) } },
    select: { id: true },
  });
  const known = new Set(rows.map(({ id }) => id));
  const fresh = items.filter(({ id }) => !known.has(id));
  if (fresh.length > 0) await inTransaction(db, now, (tx) => queueNow(tx, fresh));
}
