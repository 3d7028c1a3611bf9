import type { Db } from '../db/transaction.ts';
import { inTransaction } from '../db/transaction.ts';
import { addSeconds, DAY_SECONDS } from '../instants.ts';
import { readOutboxState } from './items.ts';
import { idOnce, queueNow } from './queue.ts';

/** An item that has waited longer than this is stuck, s. */
const STUCK_SECONDS = 3_600;

/**
 * Finds what an operator should know about. Each problem is one sentence; an empty list means that all is
 * well.
 */
export async function readProblems(db: Db, now: Date): Promise<string[]> {
  const failedEvents = await db.event.count({ where: { status: 'failed' } });
  // A mail to an address that does not exist fails for good, so report each failure for one day only.
  const failed = await db.outboxItem.count({
    where: { status: 'failed', endedAt: { gt: addSeconds(now, -DAY_SECONDS) } },
  });
  const { oldestSeconds } = await readOutboxState(db, now);
  const problems: string[] = [];
  if (failedEvents > 0) {
    problems.push(
      `${counted(failedEvents, 'Stripe event')} could not be handled. "events --failed" shows why; mend it, then "replay" each of them.`,
    );
  }
  if (failed > 0) {
    problems.push(
      `${counted(failed, 'mail or change at Stripe', 'mails or changes at Stripe')} failed for good within the last day. "mail --failed" shows why; mend it, then "mail-resend" each of them.`,
    );
  }
  if (oldestSeconds !== null && oldestSeconds > STUCK_SECONDS) {
    const hours = Math.floor(oldestSeconds / 3_600);
    problems.push(
      `A mail or a change at Stripe has waited for ${counted(hours, 'hour')}. "mail" shows why the last try failed.`,
    );
  }
  return problems;
}

/**
 * Queues a mail to the operator if something is wrong. At most one is queued a day, however many servers
 * look.
 *
 * @param address OPERATOR_EMAIL
 */
export async function queueAlarm(db: Db, address: string, now: Date): Promise<void> {
  const id = idOnce('mail.operator', now.toISOString().slice(0, 10));
  if (await db.outboxItem.findUnique({ where: { id }, select: { id: true } })) return;
  const problems = await readProblems(db, now);
  if (problems.length === 0) return;
  await inTransaction(db, now, (tx) =>
    queueNow(tx, [{ id, kind: 'mail.operator', userId: null, data: { problems }, address }]),
  );
}

function counted(count: number, one: string, many = `${one}s`): string {
  return `${count} ${count === 1 ? one : many}`;
}
