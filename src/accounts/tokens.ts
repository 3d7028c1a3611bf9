import { createHmac, randomBytes } from 'node:crypto';

/** Returns 256 random bits as text that is safe in cookies and links. */
export function newToken(): string {
  return randomBytes(32).toString('base64url');
}

/**
 * Only this keyed hash is stored, so a copy of the database opens no session and resets no password.
 *
 * @param secret SESSION_SECRET
 */
export function hashToken(secret: string, token: string): string {
  return createHmac('sha256', secret).update(token).digest('base64url');
}
