import type { User } from './generated/client.ts';
import type { Tx } from './transaction.ts';

/**
 * Locks a user's row until the transaction ends, and reads it. Tier and credit change only under this lock;
 * whoever needs two users locks the buyer before the referrer (design: rule 5).
 *
 * @param tx the open transaction
 * @param id the user's id
 * @returns the row as it is under the lock, or null when there is none (any more)
 */
export async function lockUser(tx: Tx, id: string): Promise<User | null> {
  // Writing a column onto itself is the row lock that SQLite and PostgreSQL both understand. No key: foreign keys are
  // checked anew when one is written.
  const [user] = await tx.$queryRaw<User[]>`
    UPDATE "User" SET "tier" = "tier" WHERE "id" = ${id} RETURNING *`;
  return user ?? null;
}
