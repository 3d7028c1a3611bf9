import { randomUUID } from 'node:crypto';

import type { AuditRow } from './db/generated/client.ts';
import type { Db } from './db/transaction.ts';
import type { Unit } from './db/unit-of-work.ts';

/** Who or what changes a user's access. */
export interface Cause {
  /** The id of the Stripe event or the referral, or one generated for an operator's command. */
  id: string;
  actor: 'stripe' | 'operator';
  /** The operator's note. */
  note?: string;
}

/** Seconds are added, or removed when negative. */
export type Change = { kind: 'tier'; fromTier: string; toTier: string } | { kind: 'credit'; seconds: number };

/** Appends audit rows for one cause. */
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

/** A user's audit rows, oldest first. At the same instant, the tier comes before the credit that follows from it. */
export async function listAudit(db: Db, userId: string): Promise<AuditRow[]> {
  return db.auditRow.findMany({
    where: { userId },
    orderBy: [{ at: 'asc' }, { kind: 'desc' }, { id: 'asc' }],
  });
}
