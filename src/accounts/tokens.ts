import { createHmac, randomBytes } from 'node:crypto';

/**
 * @returns a token that nobody guesses: 256 random bits, safe in a cookie and in a link
 */
export function newToken(): string {
  return randomBytes(32).toString('base64url');
}

/**
 * What is stored of a token: a copy of the database opens no session and resets no password.
 *
 * @param secret SESSION_SECRET
 * @param token the token
 * @returns its keyed hash
 */
export function hashToken(secret: string, token: string): string {
  return createHmac('sha256', secret).update(token).digest('base64url');
}
