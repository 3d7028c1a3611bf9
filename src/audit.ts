import { randomUUID } from 'node:crypto';

import type { AuditRow } from './db/generated/client.ts';
import type { Db } from './db/transaction.ts';
import type { Unit } from './db/unit-of-work.ts';

/** Who or what changes a user's access: a Stripe event, or an operator at the command line. */
export interface Cause {
  /** The Stripe event's id, a referral's id, or an id made for an operator's command. */
  id: string;
  actor: 'stripe' | 'operator';
  /** An operator's own words. */
  note?: string;
}

/** What changed: the tier, or the credit (seconds added, negative when taken). */
export type Change = { kind: 'tier'; fromTier: string; toTier: string } | { kind: 'credit'; seconds: number };

/**
 * Appends audit rows: the changes of one cause.
 *
 * @param tx the unit of work; its `now` is the rows' instant
 * @param cause who changed something and why
 * @param changes whose access changed, and what
 */
export function writeAudit(
  { now, rows }: Pick<Unit, 'now' | 'rows'>,
  cause: Cause,
  changes: readonly ({ userId: string } & Change)[],
): void {
  const { id, actor, note = null } = cause;
  const nothing = { fromTier: null, toTier: null, seconds: null };
  rows.audit.push(
    ...changes.map((change): AuditRow => ({
      ...nothing,
      ...change,
      id: randomUUID(),
      at: now,
      actor,
      causeId: id,
      note,
    })),
  );
}

/**
 * @param db the database
 * @param userId whose rows
 * @returns the user's audit rows, the oldest first; of one instant, the tier before the credit that follows from it
 */
export async function listAudit(db: Db, userId: string): Promise<AuditRow[]> {
  return db.auditRow.findMany({
    where: { userId },
    orderBy: [{ at: 'asc' }, { kind: 'desc' }, { id: 'asc' }],
  });
}
