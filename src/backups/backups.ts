import { randomUUID } from 'node:crypto';

import { accessOf } from '../access/access.ts';
import { lockUser } from '../db/lock-user.ts';
import type { Db, Tx } from '../db/transaction.ts';

/** So many backups of a user are kept; one more drops the oldest. */
export const BACKUPS_KEPT = 20;

/** A backup without its document. */
export interface BackupView {
  id: string;
  createdAt: Date;
  bytes: number;
}

/**
 * @param db the database
 * @param userId whose
 * @returns their backups, the newest first
 */
export async function listBackups(db: Db, userId: string): Promise<BackupView[]> {
  const rows = await db.$queryRaw<(Omit<BackupView, 'bytes'> & { bytes: bigint | number })[]>`
    SELECT "id", "createdAt", octet_length("document") AS "bytes"
    FROM "Backup" WHERE "userId" = ${userId} ORDER BY "number" DESC`;
  return rows.map((row) => ({ ...row, bytes: Number(row.bytes) }));
}

/**
 * Keeps a backup, if the user has access at this moment, and drops what is more than `BACKUPS_KEPT`.
 *
 * @param tx the open transaction
 * @param userId whose
 * @param document a portfolio as JSON, checked
 * @returns the new backup, or null when the user has no access: then nothing is changed
 */
export async function keepBackup(tx: Tx, userId: string, document: string): Promise<BackupView | null> {
  const user = await lockUser(tx, userId);
  if (!user || user.deletedAt || !accessOf(user, null, tx.now).granted) return null;
  // Under the user's lock nobody else takes this number.
  const kept = await tx.backup.findMany({
    where: { userId },
    orderBy: { number: 'desc' },
    select: { number: true },
  });
  const number = (kept[0]?.number ?? 0) + 1;
  const id = randomUUID();
  await tx.backup.create({ data: { id, userId, number, document, createdAt: tx.now } });
  const oldestKept = kept[BACKUPS_KEPT - 2];
  if (oldestKept) await tx.backup.deleteMany({ where: { userId, number: { lt: oldestKept.number } } });
  return { id, createdAt: tx.now, bytes: Buffer.byteLength(document) };
}

/**
 * @param db the database
 * @param userId whose
 * @param id the backup's
 * @returns when it was made, and its document as JSON; null when they have no such backup
 */
export async function readBackup(
  db: Db,
  userId: string,
  id: string,
): Promise<{ createdAt: Date; document: string } | null> {
  return db.backup.findUnique({ where: { id, userId }, select: { createdAt: true, document: true } });
}

/**
 * @param tx the open transaction
 * @param userId whose
 * @param id the backup's
 * @returns whether there was one to delete
 */
export async function deleteBackup(tx: Tx, userId: string, id: string): Promise<boolean> {
  const { count } = await tx.backup.deleteMany({ where: { id, userId } });
  return count > 0;
}
