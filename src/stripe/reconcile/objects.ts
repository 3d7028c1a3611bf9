import { randomUUID } from 'node:crypto';

import type { Stripe } from 'stripe';

import type { Cause } from '../../audit.ts';
import { inTransaction, isRefused } from '../../db/transaction.ts';
import type { Db, Tx } from '../../db/transaction.ts';
import { describeError } from '../describe-error.ts';
import { inUnit } from '../../db/unit-of-work.ts';
import type { EventHandler } from '../objects/handler.ts';
import type { StripeEvent } from '../objects/event.ts';
import type { ReconcileContext } from './context.ts';
import type { Difference } from './report.ts';

/**
 * What one object differs in, and what makes our rows say the same. That returns false when a webhook was faster, and
 * what Stripe said may be older than the row.
 */
export interface Finding {
  differences: Omit<Difference, 'mended' | 'problem'>[];
  mend: (tx: Tx) => Promise<boolean>;
}

/** What Stripe's lists are asked for. https://docs.stripe.com/api/pagination */
export interface Page {
  limit: number;
  starting_after?: string;
  created?: { gte: number };
}

/** One kind of object at Stripe, and how it is compared with our rows. */
export interface Kind<T, Rows> {
  /** What it is called, in the plural. */
  stage: string;
  /** Asks Stripe for a page of its list, the newest first. */
  list: (page: Page) => Promise<Stripe.ApiList<T>>;
  /** Reads what we hold of some objects, in few statements. */
  read: (objects: readonly T[]) => Promise<Rows>;
  /** Whether our rows may say something else of an object. */
  differs: (object: T, rows: Rows) => boolean;
  /** Looks again at one that may differ, now that it is its turn; null when nothing does after all. */
  examine: (object: T) => Promise<Finding | null>;
}

/** The most that Stripe lists in one answer. */
export const PAGE = 100;

/** A run that was interrupted is taken up where it was, if that is not longer ago than this, ms. */
const RESUME_MS = 24 * 60 * 60 * 1000;

/**
 * Goes through the objects of one kind, newest first, and mends what differs, each in a transaction of its own. An
 * interrupted run goes on where it was.
 *
 * @param context Stripe, the database, how far to look back, and whether to change anything
 * @param kind the kind of object
 * @returns how many were compared, and what differed
 */
export async function compareAll<T extends { id: string }, Rows>(
  context: ReconcileContext,
  kind: Kind<T, Rows>,
): Promise<{ compared: number; differences: Difference[] }> {
  const { db, now, since, dryRun, progress } = context;
  const { stage, list, read, differs, examine } = kind;
  const cursor = `reconcile ${stage}`;
  const start = dryRun ? null : await readCursor(db, cursor, now());
  const bound = since === null ? {} : { created: { gte: epoch(since) } };
  const differences: Difference[] = [];
  let compared = 0;
  for await (const objects of pagesOf((page) => list({ ...page, ...bound }), start)) {
    const rows = await read(objects);
    for (const object of objects.filter((one) => differs(one, rows))) {
      const finding = await examine(object);
      if (finding) differences.push(...(await mend(context, finding)));
    }
    compared += objects.length;
    progress({ stage, done: compared, total: null });
    if (!dryRun) await writeCursor(db, cursor, objects.at(-1)?.id ?? null, now());
  }
  if (!dryRun) await writeCursor(db, cursor, null, now());
  return { compared, differences };
}

/**
 * Goes through a list of Stripe's page by page.
 *
 * @param list asks Stripe for a page
 * @param start the id after which to begin; null: at the newest
 * @yields what is on each page
 */
export async function* pagesOf<T extends { id: string }>(
  list: (page: Page) => Promise<Stripe.ApiList<T>>,
  start: string | null = null,
): AsyncGenerator<T[]> {
  let after = start;
  for (;;) {
    const page = await list({ limit: PAGE, ...(after !== null && { starting_after: after }) });
    yield page.data;
    const last = page.data.at(-1);
    if (!page.has_more || !last) return;
    after = last.id;
  }
}

/**
 * Mends what one object differs in, unless this is a dry run.
 *
 * @param context the database, and whether to change anything
 * @param finding what differs
 * @returns the differences, and whether each is mended
 */
export async function mend(
  { db, now, dryRun }: Pick<ReconcileContext, 'db' | 'now' | 'dryRun'>,
  finding: Finding,
): Promise<Difference[]> {
  const told = (mended: boolean, problem: string | null = null): Difference[] =>
    finding.differences.map((difference) => ({ ...difference, mended, problem }));
  if (dryRun) return told(false);
  try {
    return told(await inTransaction(db, now(), finding.mend));
  } catch (error) {
    if (isRefused(error)) throw error;
    // Rolled back. One object that cannot be mended must not keep the others from it.
    return told(false, describeError(error));
  }
}

/**
 * Lets an event's own handler store what an object says, as if Stripe had sent the event only now.
 *
 * @param context what events are handled with
 * @param handler the handler
 * @param type the type of event that carries such an object
 * @param object the object
 * @param created the second at which Stripe would have sent it, UTC
 * @returns mends the object
 */
export function mendBy(
  { events }: ReconcileContext,
  handler: EventHandler,
  type: string,
  object: object,
  created: Date,
): Finding['mend'] {
  const event: StripeEvent = {
    id: `reconcile-${randomUUID()}`,
    type,
    created,
    livemode: null,
    account: null,
    customerId: null,
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

/** @returns the cause of what is mended in one object */
export function causeNow(): Cause {
  return { id: `reconcile-${randomUUID()}`, actor: 'stripe' };
}

/**
 * @param rows rows with ids
 * @returns them by their ids
 */
export function byId<Row extends { id: string }>(rows: readonly Row[]): ReadonlyMap<string, Row> {
  return new Map(rows.map((row) => [row.id, row]));
}

/**
 * @param instant an instant
 * @returns it as Stripe writes it: whole seconds since 1970
 */
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
