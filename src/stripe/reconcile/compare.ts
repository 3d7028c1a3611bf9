import { randomUUID } from 'node:crypto';

import type { Stripe } from 'stripe';

import type { Cause } from '../../audit.ts';
import { inTransaction, isBusyOrUnreachable } from '../../db/transaction.ts';
import type { Db, Tx } from '../../db/transaction.ts';
import { inUnit } from '../../db/unit-of-work.ts';
import { describeError } from '../describe-error.ts';
import { unlessGone } from '../missing.ts';
import type { StripeEvent } from '../objects/event.ts';
import type { EventHandler } from '../objects/handler.ts';
import type { ReconcileContext } from './reconcile-context.ts';
import type { Difference } from './report.ts';

/**
 * The differences of one object, and a function that fixes our rows. It returns false when nothing was stored: a
 * webhook changed the row first, so that Stripe's answer may be older, or the handler ignored the object.
 */
export interface Finding {
  differences: Omit<Difference, 'fixed' | 'problem'>[];
  fix: (tx: Tx) => Promise<boolean>;
}

/** Parameters of Stripe's lists. https://docs.stripe.com/api/pagination */
export interface Page {
  limit: number;
  starting_after?: string;
  created?: { gte: number };
}

/** One kind of object at Stripe, and how it is compared with our rows. */
export interface Kind<T, Rows> {
  /** Its name in the plural. */
  stage: string;
  /** Fetches a page of Stripe's list, newest first. */
  list: (page: Page) => Promise<Stripe.ApiList<T>>;
  /** Reads our rows for a page of objects. */
  read: (objects: readonly T[]) => Promise<Rows>;
  /** Whether our rows may differ from an object. */
  differs: (object: T, rows: Rows) => boolean;
  /** Checks again an object that may differ; null when it does not. */
  examine: (object: T) => Promise<Finding | null>;
}

/** The most objects that Stripe lists in one page. */
export const PAGE = 100;

/** An interrupted run is resumed within this time, ms. */
const RESUME_MS = 24 * 60 * 60 * 1000;

/**
 * Goes through the objects of one kind, newest first, and fixes each object that differs in a transaction of its own.
 * Resumes an interrupted run.
 */
export async function compareAll<T extends { id: string }, Rows>(
  context: ReconcileContext,
  kind: Kind<T, Rows>,
): Promise<{ compared: number; differences: Difference[] }> {
  const { db, now, since, dryRun, progress } = context;
  const { stage, list, read, differs, examine } = kind;
  const cursor = `reconcile ${stage}`;
  // Only an unbounded list can be resumed: with a bound, each run lists different objects.
  const isResumable = !dryRun && since === null;
  const start = isResumable ? await readCursor(db, cursor, now()) : null;
  const bound = since === null ? {} : { created: { gte: epoch(since) } };
  const differences: Difference[] = [];
  let compared = 0;
  for await (const objects of pagesOf((page) => list({ ...page, ...bound }), start)) {
    const rows = await read(objects);
    for (const object of objects.filter((one) => differs(one, rows))) {
      const finding = await examine(object);
      if (finding) differences.push(...(await fix(context, finding)));
    }
    compared += objects.length;
    progress({ stage, done: compared, total: null });
    if (isResumable) await writeCursor(db, cursor, objects.at(-1)?.id ?? null, now());
  }
  if (isResumable) await writeCursor(db, cursor, null, now());
  return { compared, differences };
}

/**
 * Reads a Stripe list page by page.
 *
 * @param start the id to start after; null, or an id that Stripe does not know any more, for the newest
 */
export async function* pagesOf<T extends { id: string }>(
  list: (page: Page) => Promise<Stripe.ApiList<T>>,
  start: string | null = null,
): AsyncGenerator<T[]> {
  let after = start;
  for (;;) {
    const query = { limit: PAGE, ...(after !== null && { starting_after: after }) };
    const page = after !== null && after === start ? await unlessGone(() => list(query)) : await list(query);
    if (!page) {
      after = null;
      continue;
    }
    yield page.data;
    const last = page.data.at(-1);
    if (!page.has_more || !last) return;
    after = last.id;
  }
}

/** Fixes the differences of one object, unless this is a dry run. */
export async function fix(
  { db, now, dryRun }: Pick<ReconcileContext, 'db' | 'now' | 'dryRun'>,
  finding: Finding,
): Promise<Difference[]> {
  const report = (fixed: boolean, problem: string | null = null): Difference[] =>
    finding.differences.map((difference) => ({ ...difference, fixed, problem }));
  if (dryRun) return report(false);
  try {
    return report(await inTransaction(db, now(), finding.fix));
  } catch (error) {
    if (isBusyOrUnreachable(error)) throw error;
    // Rolled back. An object that cannot be fixed must not stop the others.
    return report(false, describeError(error));
  }
}

/**
 * Stores an object through the event's own handler, as if its event had only now been delivered.
 *
 * @param type an event type that carries such an object
 * @param created when Stripe would have sent it, UTC
 */
export function fixBy(
  { events }: ReconcileContext,
  handler: EventHandler,
  type: string,
  object: object,
  created: Date,
): Finding['fix'] {
  const event: StripeEvent = {
    id: `reconcile-${randomUUID()}`,
    type,
    created,
    livemode: null,
    account: null,
    customerId: null,
    aboutId: null,
    object: { ...object },
    previousAttributes: {},
    malformed: null,
  };
  const { programme } = events;
  return async (tx) => {
    const read = handler(event, programme);
    if ('status' in read) return false;
    const { wants, apply } = read;
    const outcome = await inUnit(tx, programme, wants, (unit) => apply(unit, null));
    return outcome.status === 'ok';
  };
}

export function reconcileCause(): Cause {
  return { id: `reconcile-${randomUUID()}`, actor: 'stripe' };
}

export function byId<Row extends { id: string }>(rows: readonly Row[]): ReadonlyMap<string, Row> {
  return new Map(rows.map((row) => [row.id, row]));
}

/** Whole seconds since 1970, as Stripe writes instants. */
export function epoch(instant: Date): number {
  return Math.floor(instant.getTime() / 1000);
}

async function readCursor(db: Db, key: string, now: Date): Promise<string | null> {
  const setting = await db.setting.findUnique({ where: { key } });
  const [at = '', after = ''] = setting?.value.split(' ') ?? [];
  return after !== '' && now.getTime() - new Date(at).getTime() < RESUME_MS ? after : null;
}

async function writeCursor(db: Db, key: string, after: string | null, now: Date): Promise<void> {
  await inTransaction(db, now, async (tx) => {
    if (after === null) {
      await tx.setting.deleteMany({ where: { key } });
      return;
    }
    const value = `${tx.now.toISOString()} ${after}`;
    await tx.setting.upsert({ where: { key }, create: { key, value }, update: { value } });
  });
}
