import type { User } from './generated/client.ts';
import type { Tx } from './transaction.ts';

/**
 * Locks a user's row until the transaction ends, and reads it. Tier and credit change only under this lock. The
 * unit of work locks several users together, in the order of their ids.
 *
 * @returns null when no such row exists; a tombstone is returned like any other row
 */
export async function lockUser(tx: Tx, id: string): Promise<User | null> {
  // Assigning a column to itself locks the row on both engines. It must not be a key column: writing a key rechecks
  // foreign keys.
  const [user] = await tx.$queryRaw<User[]>`
    UPDATE "User" SET "tier" = "tier" WHERE "id" = ${id} RETURNING *`;
  return user ?? null;
}

/**
 * Locks a user's customers until the transaction ends. Call it before `lockUser`: every transaction locks them in this order
 * (design: rule 5). SQLite has one writer at a time.
 */
export async function lockCustomersOf(tx: Tx, userId: string): Promise<void> {
  if (tx.engine === 'postgresql')
    await tx.$queryRaw`SELECT 1 FROM "Customer" WHERE "userId" = ${userId} ORDER BY "id" FOR NO KEY UPDATE`;
}

/** Whether anybody can use an account: it is neither deleted nor shut out. */
export function isUsable(
  { deletedAt, shutOutUntil }: Pick<User, 'deletedAt' | 'shutOutUntil'>,
  now: Date,
): boolean {
  return deletedAt === null && (shutOutUntil === null || shutOutUntil <= now);
}
