import type { Stripe } from 'stripe';

import type { Db } from '../../db/transaction.ts';
import { inTransaction, isBusyOrUnreachable } from '../../db/transaction.ts';
import { addSeconds, DAY_SECONDS, later, secondsBetween, wholeSeconds } from '../../instants.ts';
import { describeError } from '../describe-error.ts';
import { handleEvent, HANDLED_TYPES } from '../handle-event.ts';
import { readEvent, whyNotAnEvent } from '../objects/event.ts';
import { epoch, PAGE, pagesOf } from './compare.ts';
import type { ReconcileContext } from './reconcile-context.ts';
import { formatValue } from './report.ts';
import type { Difference } from './report.ts';

/** How many days of events Stripe lists. https://docs.stripe.com/api/events */
const EVENT_LIST_DAYS = 30;

/** The most types that Stripe's event list accepts in one request. */
const MAX_TYPES = 20;

/** All handled types, in groups of at most MAX_TYPES. */
const TYPE_GROUPS = Array.from({ length: Math.ceil(HANDLED_TYPES.length / MAX_TYPES) }, (_, group) =>
  HANDLED_TYPES.slice(group * MAX_TYPES, (group + 1) * MAX_TYPES),
);

/** An event can appear in the list a little after its `created`, so the next run reads this many seconds again. */
const OVERLAP_SECONDS = 3600;

/** The setting that holds the time up to which all listed events were handled. */
const MARK = 'reconciledUntil';

export interface MissingEvents {
  since: Date;
  seen: number;
  missing: number;
  failed: number;
  differences: Difference[];
}

/**
 * Reads Stripe's event list and handles every event that never arrived or that we failed to handle, with the webhook's
 * own handler.
 *
 * Goes day by day, oldest first; the next run skips finished days. If each list of types fits on one page, all days are
 * read at once, so that a quiet account does not need a request for each day.
 *
 * @param seconds how far to look back, s, at most as far as Stripe lists events; null to continue from where the last run
 *   ended
 * @throws whatever Stripe or a busy database throws; finished work is kept
 */
export async function handleMissingEvents(
  context: ReconcileContext,
  seconds: number | null,
): Promise<MissingEvents> {
  const { db, now, progress, dryRun } = context;
  const until = wholeSeconds(now());
  const earliest = addSeconds(until, -EVENT_LIST_DAYS * DAY_SECONDS);
  const since = later(earliest, seconds === null ? await endOfLastRun(db) : addSeconds(until, -seconds));
  const found: MissingEvents = { since, seen: 0, missing: 0, failed: 0, differences: [] };
  // One more than the whole days, so that the current second is included.
  const days = Math.floor(secondsBetween(since, until) / DAY_SECONDS) + 1;
  const step = (await fitOnOnePage(context, since)) ? days : 1;
  for (let day = 0; day < days; day += step) {
    const first = addSeconds(since, day * DAY_SECONDS);
    await handleDays(context, first, step, found);
    progress({ stage: 'days of events', done: day + step, total: days });
    const done = addSeconds(first, step * DAY_SECONDS);
    // A bounded run leaves a gap before it, so it does not move the mark.
    if (seconds === null && !dryRun && found.failed === 0)
      await setMark(db, done > until ? until : done, now());
  }
  return found;
}

async function fitOnOnePage({ stripe }: ReconcileContext, since: Date): Promise<boolean> {
  for (const types of TYPE_GROUPS) {
    const page = await stripe.events.list({ limit: PAGE, created: { gte: epoch(since) }, types });
    if (page.has_more) return false;
  }
  return true;
}

async function handleDays(
  context: ReconcileContext,
  from: Date,
  days: number,
  found: MissingEvents,
): Promise<void> {
  const { db, stripe, dryRun } = context;
  const missing: Stripe.Event[] = [];
  const created = { gte: epoch(from), lt: epoch(from) + days * DAY_SECONDS };
  for (const types of TYPE_GROUPS) {
    for await (const events of pagesOf((page) => stripe.events.list({ ...page, created, types }))) {
      found.seen += events.length;
      const done = await doneAmong(db, events);
      missing.push(...events.filter((event) => !isOfTestClock(event) && !done.has(event.id)));
    }
  }
  // Stripe lists newest first; oldest first avoids most ties and stale snapshots.
  for (const raw of missing.reverse().sort((a, b) => a.created - b.created)) {
    found.missing += 1;
    const problem = dryRun ? null : await handleMissed(context, raw);
    if (problem !== null) found.failed += 1;
    found.differences.push({
      object: 'event',
      id: raw.id,
      field: raw.type,
      here: 'not handled',
      there: `sent on ${formatValue(new Date(raw.created * 1000))}`,
      fixed: !dryRun && problem === null,
      problem,
    });
  }
}

/**
 * Returns why the event could not be handled, or null. A failure to handle it is also in the event ledger; an event
 * that cannot be read is only reported.
 */
async function handleMissed({ events, now }: ReconcileContext, raw: Stripe.Event): Promise<string | null> {
  const at = now();
  const event = readEvent(raw, at);
  if (!event) return whyNotAnEvent(raw);
  try {
    await handleEvent(events, event, JSON.stringify(raw), at);
    return null;
  } catch (error) {
    if (isBusyOrUnreachable(error)) throw error;
    return describeError(error);
  }
}

async function endOfLastRun(db: Db): Promise<Date | null> {
  const mark = await db.setting.findUnique({ where: { key: MARK } });
  return mark && addSeconds(new Date(mark.value), -OVERLAP_SECONDS);
}

async function setMark(db: Db, mark: Date, now: Date): Promise<void> {
  const value = mark.toISOString();
  await inTransaction(db, now, async (tx) => {
    await tx.setting.upsert({ where: { key: MARK }, create: { key: MARK, value }, update: { value } });
  });
}

/** The ids that were applied or ignored. */
async function doneAmong(db: Db, events: readonly { id: string }[]): Promise<ReadonlySet<string>> {
  const known = await db.event.findMany({
    where: { id: { in: events.map(({ id }) => id) }, status: { not: 'failed' } },
    select: { id: true },
  });
  return new Set(known.map(({ id }) => id));
}

function isOfTestClock(event: Stripe.Event): boolean {
  const object = event.data.object as { test_clock?: unknown };
  return (object.test_clock ?? null) !== null;
}
