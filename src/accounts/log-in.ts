import type { Db } from '../db/transaction.ts';
import { inTransaction } from '../db/transaction.ts';
import { verifyPassword } from './passwords.ts';
import { closeSession, openSession } from './sessions.ts';

export interface LogIn {
  /** In lower case. */
  email: string;
  password: string;
  /** The token of the session that the browser had before; it ends. */
  oldToken: string | null;
}

/**
 * Opens a new session for whoever knows the password. An unknown address and a wrong password cannot be told apart, by
 * the answer or by its time.
 *
 * @param db the database
 * @param secret SESSION_SECRET
 * @param input what was typed
 * @param now the instant, UTC
 * @returns the session's token, or null when the address or the password is wrong
 */
export async function logIn(db: Db, secret: string, input: LogIn, now: Date): Promise<string | null> {
  const user = await db.user.findUnique({ where: { email: input.email } });
  const right = await verifyPassword(user?.passwordHash ?? null, input.password);
  if (!user || !right) return null;
  return inTransaction(db, now, async (tx) => {
    if (input.oldToken) await closeSession(tx, secret, input.oldToken);
    return openSession(tx, secret, user.id);
  });
}
