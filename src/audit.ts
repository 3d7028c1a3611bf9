import { randomUUID } from 'node:crypto';

import type { AuditRow } from './db/generated/client.ts';
import type { Db, Tx } from './db/transaction.ts';

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
 * Appends one audit row.
 *
 * @param tx the open transaction; its `now` is the row's instant
 * @param userId whose access changed
 * @param cause who changed it and why
 * @param change what changed
 */
export async function writeAudit(tx: Tx, userId: string, cause: Cause, change: Change): Promise<void> {
  await tx.auditRow.create({
    data: {
      id: randomUUID(),
      userId,
      at: tx.now,
      actor: cause.actor,
      causeId: cause.id,
      note: cause.note ?? null,
      ...change,
    },
  });
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
