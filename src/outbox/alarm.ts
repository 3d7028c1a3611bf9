import { paidSince } from '../access/proof.ts';
import type { OutboxItem, Prisma } from '../db/generated/client.ts';
import type { Db } from '../db/transaction.ts';
import { inTransaction } from '../db/transaction.ts';
import { addSeconds, DAY_SECONDS, secondsBetween } from '../instants.ts';
import { EVENT_STATUSES } from '../stripe/event-ledger.ts';
import { counted, sentence } from '../wording.ts';
import { WAITS } from './items.ts';
import { idOnce, queueNow } from './queue.ts';
import { RECIPIENT_REFUSED } from './smtp.ts';

/** An item that has waited longer than this is stuck, s. */
const STUCK_SECONDS = 3_600;

/**
 * How many of the newest events show which pauses are usual. With fewer than FEWEST_EVENTS, silence raises no alarm.
 */
const RECENT_EVENTS = 1_000;
const FEWEST_EVENTS = 20;

/** Silence is unusual when it lasts this many times the longest pause, and at least this long, s. */
const TIMES_THE_LONGEST = 2;
const SHORTEST_SILENCE_SECONDS = 6 * 3_600;

/** Finds what is wrong in the whole database. It reads every row, so it is slow; the signal aborts it. */
export type Examine = (signal: AbortSignal) => Promise<string[]>;

/**
 * Finds problems that an operator should know about and that a few queries can find. Each problem is a few
 * sentences; an empty list means that all is well.
 */
export async function readProblems(db: Db, now: Date): Promise<string[]> {
  const failedEvents = await db.event.count({ where: { status: 'failed' } });
  const failed = await db.outboxItem.count({
    where: {
      status: 'failed',
      endedAt: { gte: await lastLook(db, now) },
      NOT: { OR: FAILURES_OF_STRANGERS },
    },
  });
  const stuck = await oldestStuck(db, now);
  const silence = unusualSilence(await readReceipts(db), now);
  const problems: string[] = [];
  if (failedEvents > 0) {
    problems.push(
      `${counted(failedEvents, 'Stripe event')} could not be handled. "events --failed" shows why. Fix the cause, then run "replay" with the id of each event.`,
    );
  }
  if (failed > 0) {
    problems.push(
      `${counted(failed, 'email or change at Stripe', 'emails or changes at Stripe')} failed for good. "mail --failed" shows why. Fix the cause. "mail-resend" sends one again, or says why it cannot.`,
    );
  }
  if (stuck) {
    const why =
      stuck.error === null
        ? 'It has not been tried yet.'
        : `Its last attempt failed: ${sentence(stuck.error)}`;
    problems.push(
      `An email or a change at Stripe (${stuck.kind}, ${stuck.id}) has waited for ${inHours(secondsBetween(stuck.createdAt, now))}. ${why}`,
    );
  }
  if (silence) {
    problems.push(
      `No event has come from Stripe for ${inHours(silence.seconds)}. The longest pause before that was ${inHours(silence.longest)}. Look at the webhook endpoint in Stripe's dashboard, then run "reconcile".`,
    );
  }
  return problems;
}

/**
 * Failures that anybody can cause, by signing up with an address that does not exist. One a day would use up the
 * operator's only email of the day.
 */
const FAILURES_OF_STRANGERS: Prisma.OutboxItemWhereInput[] = [
  { kind: 'mail.prove-address' },
  {
    kind: { startsWith: 'mail.' },
    user: { emailProvenAt: null, customers: { none: { subscriptions: { some: paidSince({ not: null }) } } } },
  },
];

/**
 * The item that has waited longest, if it is stuck. It leaves out failures caused by a stranger's unusable address, items
 * that only wait for another one, and emails to the operator: if one of those cannot be sent, neither can the next.
 */
async function oldestStuck(
  db: Db,
  now: Date,
): Promise<Pick<OutboxItem, 'id' | 'kind' | 'createdAt' | 'error'> | null> {
  return db.outboxItem.findFirst({
    where: {
      status: 'queued',
      kind: { not: 'mail.operator' },
      createdAt: { lt: addSeconds(now, -STUCK_SECONDS) },
      OR: [
        // A branch of its own, because in SQL the second one is not true when the error is NULL.
        { error: null },
        {
          error: { notIn: Object.values(WAITS) },
          OR: [{ NOT: { error: { startsWith: RECIPIENT_REFUSED } } }, { NOT: { OR: FAILURES_OF_STRANGERS } }],
        },
      ],
    },
    orderBy: [{ createdAt: 'asc' }, { id: 'asc' }],
    select: { id: true, kind: true, createdAt: true, error: true },
  });
}

/** How far back the last email to the operator is looked for, days. Older items may have been pruned. */
const ALARM_DAYS = 30;

/** Since when failures have not been reported: the last email to the operator, or a day ago if there was none. */
async function lastLook(db: Db, now: Date): Promise<Date> {
  const ids = Array.from({ length: ALARM_DAYS }, (_, days) => alarmId(addSeconds(now, -days * DAY_SECONDS)));
  const last = await db.outboxItem.findFirst({
    where: { id: { in: ids } },
    orderBy: { createdAt: 'desc' },
    select: { createdAt: true },
  });
  return last?.createdAt ?? addSeconds(now, -DAY_SECONDS);
}

/** The id of a day's email to the operator. */
function alarmId(day: Date): string {
  return idOnce('mail.operator', day.toISOString().slice(0, 10));
}

/** When each of the newest events reached us, the newest first. */
async function readReceipts(db: Db): Promise<Date[]> {
  // One query per status, because the index begins with the status.
  const pages = await Promise.all(
    EVENT_STATUSES.map((status) =>
      db.event.findMany({
        where: { status },
        orderBy: { receivedAt: 'desc' },
        take: RECENT_EVENTS,
        select: { receivedAt: true },
      }),
    ),
  );
  return pages
    .flat()
    .map(({ receivedAt }) => receivedAt)
    .sort((a, b) => b.getTime() - a.getTime())
    .slice(0, RECENT_EVENTS);
}

/**
 * Decides whether Stripe has been silent for longer than is usual for this account.
 *
 * @param receipts when events reached us, the newest first
 * @returns how long the silence has lasted and the longest pause before it, s; null when it is not unusual, or when
 *   there are too few events to tell
 */
export function unusualSilence(
  receipts: readonly Date[],
  now: Date,
): { seconds: number; longest: number } | null {
  const [newest] = receipts;
  if (!newest || receipts.length < FEWEST_EVENTS) return null;
  const pauses = receipts.slice(1).map((older, index) => secondsBetween(older, receipts[index] ?? older));
  const longest = Math.max(...pauses);
  const seconds = secondsBetween(newest, now);
  const isUnusual = seconds > Math.max(SHORTEST_SILENCE_SECONDS, TIMES_THE_LONGEST * longest);
  return isUnusual ? { seconds, longest } : null;
}

/**
 * Queues an email to the operator if something is wrong. At most one is queued a day, however many servers
 * look.
 *
 * @param address OPERATOR_EMAIL
 * @param examine finds what else to report. It is called only when there is an email to write anyway, or when `isDue`
 * @returns whether `examine` was called
 */
export async function queueAlarm(
  db: Db,
  address: string,
  { examine, isDue }: { examine: () => Promise<string[]>; isDue: boolean },
  now: Date,
): Promise<boolean> {
  const id = alarmId(now);
  if (await db.outboxItem.findUnique({ where: { id }, select: { id: true } })) return false;
  const problems = await readProblems(db, now);
  if (problems.length === 0 && !isDue) return false;
  problems.push(...(await examine()));
  if (problems.length > 0) {
    await inTransaction(db, now, (tx) =>
      queueNow(tx, [{ id, kind: 'mail.operator', userId: null, data: { problems }, address }]),
    );
  }
  return true;
}

function inHours(seconds: number): string {
  const hours = Math.floor(seconds / 3_600);
  if (hours < 1) return 'less than an hour';
  return hours < 72 ? counted(hours, 'hour') : counted(Math.floor(hours / 24), 'day');
}
