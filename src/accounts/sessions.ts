import type { User } from '../db/generated/client.ts';
import type { Db, Tx } from '../db/transaction.ts';
import { inTransaction } from '../db/transaction.ts';
import { hashToken, newToken } from './tokens.ts';
import { addSeconds, DAY_SECONDS, secondsBetween } from '../instants.ts';

/** A session ends this long after it was last used, s. */
export const SESSION_SECONDS = 30 * DAY_SECONDS;

/** A session in use is prolonged at most once in this time, s: not every page view is worth a write. */
const PROLONG_EVERY_SECONDS = DAY_SECONDS;

/** So many sessions of a user are kept; one more ends the one that was not used for longest. */
const SESSIONS_KEPT = 100;

export interface OpenSession {
  user: User;
  /** It was prolonged just now: the cookie must be as well. */
  prolonged: boolean;
}

/**
 * Opens a session for a user who has just proven who they are.
 *
 * @param tx the open transaction
 * @param secret SESSION_SECRET
 * @param userId whose session
 * @returns the token for the cookie; only its hash is stored
 */
export async function openSession(tx: Tx, secret: string, userId: string): Promise<string> {
  const token = newToken();
  await tx.session.deleteMany({ where: { userId, expiresAt: { lte: tx.now } } });
  const tooMany = await tx.session.findMany({
    where: { userId },
    orderBy: { expiresAt: 'desc' },
    skip: SESSIONS_KEPT - 1,
    select: { tokenHash: true },
  });
  if (tooMany.length > 0) {
    const hashes = tooMany.map(({ tokenHash }) => tokenHash);
    await tx.session.deleteMany({ where: { tokenHash: { in: hashes } } });
  }
  await tx.session.create({
    data: { tokenHash: hashToken(secret, token), userId, expiresAt: addSeconds(tx.now, SESSION_SECONDS) },
  });
  return token;
}

/**
 * Finds who a session's token belongs to, and prolongs the session when it is due.
 *
 * @param db the database
 * @param secret SESSION_SECRET
 * @param token the token in the cookie
 * @param now the instant, UTC
 * @returns the user, or null when there is no such session (any more)
 */
export async function findSession(
  db: Db,
  secret: string,
  token: string,
  now: Date,
): Promise<OpenSession | null> {
  const tokenHash = hashToken(secret, token);
  const [session] = await db.$queryRaw<(User & { sessionExpiresAt: Date })[]>`
    SELECT u.*, s."expiresAt" AS "sessionExpiresAt" FROM "Session" AS s JOIN "User" AS u ON u."id" = s."userId"
    WHERE s."tokenHash" = ${tokenHash}`;
  if (!session) return null;
  const { sessionExpiresAt, ...user } = session;
  if (sessionExpiresAt <= now || user.deletedAt) return null;
  const prolonged = secondsBetween(now, sessionExpiresAt) < SESSION_SECONDS - PROLONG_EVERY_SECONDS;
  if (prolonged) {
    await inTransaction(db, now, (tx) =>
      tx.session.updateMany({
        where: { tokenHash },
        data: { expiresAt: addSeconds(tx.now, SESSION_SECONDS) },
      }),
    );
  }
  return { user, prolonged };
}

/**
 * Ends one session.
 *
 * @param tx the open transaction
 * @param secret SESSION_SECRET
 * @param token the token in the cookie
 */
export async function closeSession(tx: Tx, secret: string, token: string): Promise<void> {
  await tx.session.deleteMany({ where: { tokenHash: hashToken(secret, token) } });
}

/**
 * Ends all sessions of a user.
 *
 * @param tx the open transaction
 * @param userId whose sessions
 */
export async function closeAllSessions(tx: Tx, userId: string): Promise<void> {
  await tx.session.deleteMany({ where: { userId } });
}

/**
 * Ends all sessions of a user but one.
 *
 * @param tx the open transaction
 * @param secret SESSION_SECRET
 * @param userId whose sessions
 * @param token the token of the session that stays
 */
export async function closeOtherSessions(
  tx: Tx,
  secret: string,
  userId: string,
  token: string,
): Promise<void> {
  await tx.session.deleteMany({ where: { userId, tokenHash: { not: hashToken(secret, token) } } });
}
