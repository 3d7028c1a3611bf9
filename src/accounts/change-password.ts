import type { Db, Tx } from '../db/transaction.ts';
import { inTransaction } from '../db/transaction.ts';
import { queueMail } from './mail-limit.ts';
import { hashPassword } from './passwords.ts';
import { endResetLinks } from './reset-links-of-address.ts';
import { closeAllSessions, openSession } from './sessions.ts';
import { lockVerified, verifyUser, withPassword } from './verified-user.ts';

/**
 * Changes a user's password, ends all their sessions and pending links (see `endResetLinks`), and opens a new session
 * for this browser.
 *
 * @param typed the current password and the new one; `mail`: whether mail is on. If so, the user is notified, unless
 *   `queueMail` refuses
 * @returns the new session's token, or null when the current password is wrong, or the account was changed, deleted or
 *   shut out meanwhile
 */
export async function changePassword(
  db: Db,
  secret: string,
  userId: string,
  typed: { currentPassword: string; newPassword: string; mail: boolean },
  now: Date,
): Promise<string | null> {
  const findUser = () => db.user.findUnique({ where: { id: userId } });
  const verified = await verifyUser(await findUser(), typed.currentPassword);
  if (!verified) return null;
  const passwordHash = await hashPassword(typed.newPassword);
  const token = await inTransaction(db, now, async (tx) => {
    const user = await lockVerified(tx, verified);
    // The password was changed, or the account deleted or shut out, while we hashed.
    if (!user) return null;
    await setPassword(tx, userId, passwordHash);
    await endResetLinks(tx, user);
    const newToken = await openSession(tx, secret, userId);
    if (typed.mail) await queueMail(tx, user, { kind: 'mail.password-changed', data: null });
    return newToken;
  });
  if (token !== null) return token;
  // The first request of a double click may have set this very password.
  return withPassword(db, findUser, typed.newPassword, now, (tx) => openSession(tx, secret, userId));
}

/**
 * Sets a new password and lifts a shut-out. This ends all sessions and cancels a pending change of address. It does not
 * end reset links; the caller must.
 *
 * @param tx must hold the user's lock
 * @param more further columns to update
 */
export async function setPassword(
  tx: Tx,
  userId: string,
  passwordHash: string,
  more: { emailProvenAt?: Date; mailOff?: boolean } = {},
): Promise<void> {
  const data = { passwordHash, shutOutUntil: null, pendingEmail: null, pendingEmailAt: null, ...more };
  await tx.user.update({ where: { id: userId }, data });
  await closeAllSessions(tx, userId);
}
