import { randomUUID } from 'node:crypto';

import { accessOf } from '../access/access.ts';
import { lockUnchanged } from '../accounts/verified-user.ts';
import type { User } from '../db/generated/client.ts';
import type { Db, Tx } from '../db/transaction.ts';

/** How many backups a user may keep; a further one replaces the oldest. */
export const BACKUPS_KEPT = 20;

/** A backup without its document. */
export interface BackupView {
  id: string;
  createdAt: Date;
  bytes: number;
}

/** A user's backups, newest first. */
export async function listBackups(db: Db, userId: string): Promise<BackupView[]> {
  const rows = await db.$queryRaw<(Omit<BackupView, 'bytes'> & { bytes: bigint | number })[]>`
    SELECT "id", "createdAt", octet_length("document") AS "bytes"
    FROM "Backup" WHERE "userId" = ${userId} ORDER BY "number" DESC`;
  return rows.map((row) => ({ ...row, bytes: Number(row.bytes) }));
}

/**
 * Stores a backup if the user has access now, and drops the oldest beyond `BACKUPS_KEPT`.
 *
 * @param owner as read before
 * @param document a validated portfolio, as JSON
 * @returns null when the user has no access; `session-ended` when the password changed, or the account was deleted or shut
 *   out, since `owner` was read; nothing is changed then
 */
export async function keepBackup(
  tx: Tx,
  owner: User,
  document: string,
): Promise<BackupView | null | 'session-ended'> {
  const user = await lockUnchanged(tx, owner);
  if (!user) return 'session-ended';
  if (!accessOf(user, null, tx.now).granted) return null;
  const { id: userId } = user;
  // The user's lock makes this number unique.
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

/** @returns null when the user has no such backup */
export async function readBackup(
  db: Db,
  userId: string,
  id: string,
): Promise<{ createdAt: Date; document: string } | null> {
  return db.backup.findUnique({ where: { id, userId }, select: { createdAt: true, document: true } });
}

/** @returns false when the user has no such backup; `session-ended` as in `keepBackup` */
export async function deleteBackup(tx: Tx, owner: User, id: string): Promise<boolean | 'session-ended'> {
  if (!(await lockUnchanged(tx, owner))) return 'session-ended';
  const { count } = await tx.backup.deleteMany({ where: { id, userId: owner.id } });
  return count > 0;
}
