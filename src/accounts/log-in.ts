import type { Db } from '../db/transaction.ts';
import { closeSession, openSession } from './sessions.ts';
import { withPassword } from './verified-user.ts';

export interface LogIn {
  /** In lower case. */
  email: string;
  password: string;
  /** The token of the session that the browser had before; it ends. */
  oldToken: string | null;
}

/**
 * Opens a new session for somebody who knows the password. An unknown address and a wrong password cannot be told apart, by
 * the answer or by its time.
 *
 * @param db the database
 * @param secret SESSION_SECRET
 * @param input what was typed
 * @param now the instant, UTC
 * @returns the session's token, or null when the address or the password is wrong
 */
export async function logIn(db: Db, secret: string, input: LogIn, now: Date): Promise<string | null> {
  const { email, password, oldToken } = input;
  const find = () => db.user.findUnique({ where: { email } });
  return withPassword(db, find, password, now, async (tx, user) => {
    if (user.email !== email) return null;
    if (oldToken !== null) await closeSession(tx, secret, oldToken);
    return openSession(tx, secret, user.id);
  });
}
