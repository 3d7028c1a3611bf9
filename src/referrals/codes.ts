import { randomInt } from 'node:crypto';

import type { Reader, Tx } from '../db/transaction.ts';

/** Without 0, O, 1, I and L, which are easily confused when read aloud or written by hand. */
const ALPHABET = '23456789ABCDEFGHJKMNPQRSTUVWXYZ';
const LENGTH = 8;
const CODE = new RegExp(`^[${ALPHABET}]{${LENGTH}}$`);

/** A new code that no account has. */
export async function newReferralCode(tx: Tx): Promise<string> {
  for (;;) {
    const code = Array.from({ length: LENGTH }, () => ALPHABET.charAt(randomInt(ALPHABET.length))).join('');
    if (!(await tx.user.findUnique({ where: { code } }))) return code;
  }
}

/** Only this much of a text is searched for a code. */
const LONGEST_TEXT = 500;

/**
 * Finds the account behind a code as somebody typed or pasted it. Ignores case, and punctuation, spaces and
 * invisible characters in and around the code. If there are other words on its line, the code must be in one piece.
 *
 * @returns null when no account, or only a deleted one, has the code
 */
export async function findReferrer(
  db: Reader,
  text: string,
): Promise<{ id: string; emailHash: string; code: string } | null> {
  const codes = codesIn(text);
  if (codes.length === 0) return null;
  const accounts = await db.user.findMany({
    where: { code: { in: codes }, deletedAt: null },
    select: { id: true, emailHash: true, code: true },
  });
  const places = accounts.map((account) => [codes.indexOf(account.code), account] as const);
  return places.sort(([a], [b]) => a - b)[0]?.[1] ?? null;
}

/**
 * All possible codes in a text, the likeliest first: each line without punctuation, spaces and invisible characters
 * ("ABCD-2345)"), then each of its words ("ABCD2345?utm_source=mail").
 */
function codesIn(text: string): string[] {
  const plain = text.slice(0, LONGEST_TEXT).normalize('NFKC').toUpperCase();
  const candidates = plain
    .split('\n')
    .map((line) => line.replaceAll(/\p{Default_Ignorable_Code_Point}/gu, ''))
    .flatMap((line) => [line.replaceAll(/[^\p{L}\p{N}]/gu, ''), ...line.split(/[^\p{L}\p{N}]+/u)]);
  return [...new Set(candidates.filter((candidate) => CODE.test(candidate)))];
}
