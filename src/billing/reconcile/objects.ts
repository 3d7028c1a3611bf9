import { randomUUID } from 'node:crypto';

import type { Stripe } from 'stripe';

import { inTransaction, isRefused } from '../../db/transaction.ts';
import type { Db, Tx } from '../../db/transaction.ts';
import { describeError } from '../describe-error.ts';
import type { TierCause } from '../grant-paid.ts';
import type { EventHandler } from '../handlers/outcome.ts';
import type { StripeEvent } from '../stripe-shapes/event.ts';
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

const PAGE = 100;

/** A run that was interrupted is taken up where it was, if that is not longer ago than this, ms. */
const RESUME_MS = 24 * 60 * 60 * 1000;

/**
 * Goes through all objects of one kind, newest first, and mends what differs, each in a transaction of its own. An
 * interrupted run goes on where it was.
 *
 * @param context Stripe, the database, and whether to change anything
 * @param stage what the kind is called, in the plural
 * @param list asks Stripe for the page after an id
 * @param compare finds what differs in one object; null when nothing does
 * @returns how many were compared, and what differed
 */
export async function compareAll<T extends { id: string }>(
  context: ReconcileContext,
  stage: string,
  list: (page: { limit: number; starting_after?: string }) => Promise<Stripe.ApiList<T>>,
  compare: (object: T) => Promise<Finding | null>,
): Promise<{ compared: number; differences: Difference[] }> {
  const { db, now, dryRun, progress } = context;
  const cursor = `reconcile ${stage}`;
  const differences: Difference[] = [];
  let compared = 0;
  let after = dryRun ? null : await readCursor(db, cursor, now());
  for (;;) {
    const page = await list({ limit: PAGE, ...(after !== null && { starting_after: after }) });
    for (const object of page.data) {
      compared += 1;
      const finding = await compare(object);
      if (finding) differences.push(...(await mend(context, finding)));
    }
    progress({ stage, done: compared, total: null });
    const last = page.data.at(-1);
    if (!page.has_more || !last) break;
    after = last.id;
    if (!dryRun) await writeCursor(db, cursor, after, now());
  }
  if (!dryRun) await writeCursor(db, cursor, null, now());
  return { compared, differences };
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
  return async (tx) => {
    const context = { tieBreaker: null, clawbackDays: events.clawbackDays };
    return (await handler(tx, event, context)).status === 'ok';
  };
}

/**
 * @param tx the open transaction
 * @param endedAt when the subscription in question ended, UTC; null: as of now
 * @returns the cause of what is mended in it
 */
export function causeNow(tx: Tx, endedAt: Date | null = null): TierCause {
  return { id: `reconcile-${randomUUID()}`, actor: 'stripe', endedAt: endedAt ?? tx.now };
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
