import { randomUUID } from 'node:crypto';

import { Prisma } from './db/generated/client.ts';
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
 * Appends audit rows: the changes of one cause.
 *
 * @param tx the open transaction; its `now` is the row's instant
 * @param cause who changed something and why
 * @param changes whose access changed, and what
 */
export async function writeAudit(
  tx: Tx,
  cause: Cause,
  changes: readonly ({ userId: string } & Change)[],
): Promise<void> {
  const { id, actor, note = null } = cause;
  const rows = changes.map((change) => {
    const { fromTier, toTier, seconds } = { fromTier: null, toTier: null, seconds: null, ...change };
    return Prisma.sql`(${randomUUID()}, ${change.userId}, ${tx.now}, ${actor}, ${change.kind}, ${fromTier},
                       ${toTier}, ${seconds}, ${id}, ${note})`;
  });
  await tx.$executeRaw`
    INSERT INTO "AuditRow" ("id", "userId", "at", "actor", "kind", "fromTier", "toTier", "seconds", "causeId", "note")
    VALUES ${Prisma.join(rows)}`;
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
