import { hash, verify } from '@node-rs/argon2';
import { z } from 'zod';

/** At least 8 characters, as NIST SP 800-63B asks; the upper bound only keeps hashing cheap. */
export const newPassword = z.string().min(8).max(200);

/** argon2id; memory KiB, passes and lanes as OWASP's Password Storage Cheat Sheet has them. */
const OPTIONS = { memoryCost: 19_456, timeCost: 2, parallelism: 1 };

let hashOfNothing: Promise<string> | undefined;

/**
 * @param password a new password
 * @returns its argon2id hash, to be stored
 */
export async function hashPassword(password: string): Promise<string> {
  return hash(password, OPTIONS);
}

/**
 * Compares a password with a stored hash. Without a hash it takes the same time, and is wrong: so that nobody can
 * tell by the clock whether an account exists.
 *
 * @param stored the hash; null when there is no such account
 * @param password what was typed
 * @returns whether it is the right one
 */
export async function verifyPassword(stored: string | null, password: string): Promise<boolean> {
  hashOfNothing ??= hashPassword('');
  const matches = await verify(stored ?? (await hashOfNothing), password);
  return stored !== null && matches;
}
