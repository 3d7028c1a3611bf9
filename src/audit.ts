import { v7 as orderedId } from 'uuid';

import type { AuditRow } from './db/generated/client.ts';
import type { Db } from './db/transaction.ts';
import type { Unit } from './db/unit-of-work.ts';

/** Who or what changes a user's access. */
export interface Cause {
  /**
   * The id of the Stripe event or the referral, or one generated for `reconcile` or an operator's command.
   */
  id: string;
  actor: 'stripe' | 'operator';
  /** The operator's note. */
  note?: string;
}

/**
 * `seconds`: credit added or, if negative, taken. A customer was moved to the user (`link`) or away from them (`unlink`);
 * `otherUserId` is the other side, null when the customer belonged to nobody.
 */
export type Change =
  | { kind: 'tier'; fromTier: string; toTier: string }
  | { kind: 'credit'; seconds: number }
  | { kind: 'link' | 'unlink'; customerId: string; otherUserId: string | null };

/** Appends the audit row of a change. */
export function writeAudit(
  { now, rows }: Pick<Unit, 'now' | 'rows'>,
  { id: causeId, actor, note }: Cause,
  change: { userId: string } & Change,
): void {
  const nothing = { fromTier: null, toTier: null, seconds: null, customerId: null, otherUserId: null };
  rows.audit.push({ ...nothing, ...change, id: orderedId(), at: now, actor, causeId, note: note ?? null });
}

/**
 * At the same instant, a cause comes before what follows from it; rows of one kind keep the order in which they were
 * written.
 */
const ORDER = ['unlink', 'link', 'tier', 'credit'];

/** A user's audit rows, oldest first. */
export async function listAudit(db: Db, userId: string): Promise<AuditRow[]> {
  const rows = await db.auditRow.findMany({ where: { userId }, orderBy: [{ at: 'asc' }, { id: 'asc' }] });
  return rows.sort(
    (a, b) => a.at.getTime() - b.at.getTime() || ORDER.indexOf(a.kind) - ORDER.indexOf(b.kind),
  );
}
