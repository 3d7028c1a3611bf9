import type { User } from '../db/generated/client.ts';
import type { Db, Tx } from '../db/transaction.ts';
import { inTransaction } from '../db/transaction.ts';
import { addSeconds, DAY_SECONDS, secondsBetween } from '../instants.ts';
import { hashToken, newToken } from './tokens.ts';

/** A session expires this long after its last use, s. */
export const SESSION_SECONDS = 30 * DAY_SECONDS;

/** Extend a session in use at most this often, s, to save a write on every page view. */
const PROLONG_EVERY_SECONDS = DAY_SECONDS;

/** Sessions kept for each user. Opening one more ends the least recently used. */
const SESSIONS_KEPT = 100;

export interface OpenSession {
  user: User;
  /** The session was just extended, so the cookie must be too. */
  prolonged: boolean;
}

/**
 * Opens a session for a user who has just proven who they are.
 *
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
 * Finds a session's user and extends the session when due. Returns null when there is no such session, or it
 * has ended.
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

/** Prolongs every session that has not expired: for the sandbox, whose clock jumps. */
export async function prolongSessions(tx: Tx): Promise<void> {
  await tx.session.updateMany({
    where: { expiresAt: { gt: tx.now } },
    data: { expiresAt: addSeconds(tx.now, SESSION_SECONDS) },
  });
}

export async function closeSession(tx: Tx, secret: string, token: string): Promise<void> {
  await tx.session.deleteMany({ where: { tokenHash: hashToken(secret, token) } });
}

export async function closeAllSessions(tx: Tx, userId: string): Promise<void> {
  await tx.session.deleteMany({ where: { userId } });
}

/**
 * Ends all sessions of a user except the one with this token.
 *
 * @returns false, with nothing changed, when that session no longer exists
 */
export async function closeOtherSessions(
  tx: Tx,
  secret: string,
  userId: string,
  token: string,
): Promise<boolean> {
  const tokenHash = hashToken(secret, token);
  if ((await tx.session.count({ where: { userId, tokenHash } })) === 0) return false;
  await tx.session.deleteMany({ where: { userId, tokenHash: { not: tokenHash } } });
  return true;
}
