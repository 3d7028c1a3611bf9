import type { Db } from '../db/transaction.ts';
import { closeSession, openSession } from './sessions.ts';
import { withPassword } from './verified-user.ts';

export interface LogIn {
  /** In lower case. */
  email: string;
  password: string;
  /** The token of the browser's previous session, which ends. */
  oldToken: string | null;
}

/**
 * Opens a new session for someone who knows the password. An unknown address and a wrong password give the
 * same answer in the same time.
 *
 * @returns the session token, or null when the address or password is wrong
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
