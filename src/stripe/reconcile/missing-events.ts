import type { Stripe } from 'stripe';

import type { Db } from '../../db/transaction.ts';
import { inTransaction, isRefused } from '../../db/transaction.ts';
import { addSeconds, DAY_SECONDS, later, secondsBetween, wholeSeconds } from '../../instants.ts';
import { describeError } from '../describe-error.ts';
import { handleEvent, HANDLED_TYPES } from '../handle-event.ts';
import { readEvent } from '../objects/event.ts';
import type { ReconcileContext } from './context.ts';
import { epoch, PAGE, pagesOf } from './objects.ts';
import { inWords } from './report.ts';
import type { Difference } from './report.ts';

/** Stripe lists events for so long. https://docs.stripe.com/api/events */
const EVENT_LIST_DAYS = 30;

/** The most types that Stripe's event list can be asked for at once. */
const MAX_TYPES = 20;

/** All that we handle, in groups of no more than that. */
const TYPE_GROUPS = Array.from({ length: Math.ceil(HANDLED_TYPES.length / MAX_TYPES) }, (_, group) =>
  HANDLED_TYPES.slice(group * MAX_TYPES, (group + 1) * MAX_TYPES),
);

/** An event can appear in the list a little after its `created`: so much is read again, s. */
const OVERLAP_SECONDS = 3600;

/** Until when everything that Stripe told of has been handled. */
const MARK = 'reconciledUntil';

export interface MissingEvents {
  since: Date;
  seen: number;
  missing: number;
  failed: number;
  differences: Difference[];
}

/**
 * Reads Stripe's event list, and hands every event that never reached us, or failed, to the handler that webhooks use.
 * Goes day by day, the oldest first; a day that is done is not read again by the next run. Events that all fit on one page
 * of Stripe's list are read at once: a quiet account needs no request for every day.
 *
 * @param context Stripe, the database, and whether to change anything
 * @param seconds how far to look back, s; null: to where the last run came
 * @returns what was found
 * @throws what Stripe or a busy database throws; what is done until then stays done
 */
export async function handleMissingEvents(
  context: ReconcileContext,
  seconds: number | null,
): Promise<MissingEvents> {
  const { db, now, progress, dryRun } = context;
  const until = wholeSeconds(now());
  const since = seconds === null ? await whereLastRunCame(db, until) : addSeconds(until, -seconds);
  const found: MissingEvents = { since, seen: 0, missing: 0, failed: 0, differences: [] };
  // One more than whole days have passed: the second in which we ask is looked at, too.
  const days = Math.floor(secondsBetween(since, until) / DAY_SECONDS) + 1;
  const step = (await fitOnOnePage(context, since)) ? days : 1;
  for (let day = 0; day < days; day += step) {
    const from = addSeconds(since, day * DAY_SECONDS);
    await handleDays(context, from, step, found);
    progress({ stage: 'days of events', done: day + step, total: days });
    const done = addSeconds(from, step * DAY_SECONDS);
    // A shorter look back leaves a gap before it: the next run starts where the last whole one came.
    if (seconds === null && !dryRun && found.failed === 0) await setMark(db, done > until ? until : done);
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
  // The lists have the newest first; in the order of things most events need no second look.
  for (const raw of missing.reverse().sort((a, b) => a.created - b.created)) {
    found.missing += 1;
    const problem = dryRun ? null : await handleMissed(context, raw);
    if (problem !== null) found.failed += 1;
    found.differences.push({
      object: 'event',
      id: raw.id,
      field: raw.type,
      here: 'not handled',
      there: `sent on ${inWords(new Date(raw.created * 1000))}`,
      mended: !dryRun && problem === null,
      problem,
    });
  }
}

/** Why it could not be handled, or null. It is in the event ledger with its error then, and the others go on. */
async function handleMissed({ events, now }: ReconcileContext, raw: Stripe.Event): Promise<string | null> {
  const at = now();
  const event = readEvent(raw, at);
  if (!event) return 'It is no event: it wants an id, a type and data.object.';
  try {
    await handleEvent(events, event, JSON.stringify(raw), at);
    return null;
  } catch (error) {
    if (isRefused(error)) throw error;
    return describeError(error);
  }
}

async function whereLastRunCame(db: Db, until: Date): Promise<Date> {
  const earliest = addSeconds(until, -EVENT_LIST_DAYS * DAY_SECONDS);
  const mark = await db.setting.findUnique({ where: { key: MARK } });
  return mark ? later(addSeconds(new Date(mark.value), -OVERLAP_SECONDS), earliest) : earliest;
}

async function setMark(db: Db, at: Date): Promise<void> {
  const value = at.toISOString();
  await inTransaction(db, at, async (tx) => {
    await tx.setting.upsert({ where: { key: MARK }, create: { key: MARK, value }, update: { value } });
  });
}

/** The ids of those that were applied or ignored. */
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
