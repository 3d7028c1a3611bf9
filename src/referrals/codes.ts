import { randomInt } from 'node:crypto';

import type { Db, Tx } from '../db/transaction.ts';

/** No 0 or O, no 1, I or L: nothing that is mistaken when read aloud or written by hand. */
const ALPHABET = '23456789ABCDEFGHJKMNPQRSTUVWXYZ';
const LENGTH = 8;
const CODE = new RegExp(`^[${ALPHABET}]{${LENGTH}}$`);

/**
 * @param tx the open transaction
 * @returns a referral code that no account has
 */
export async function newReferralCode(tx: Tx): Promise<string> {
  for (;;) {
    const code = Array.from({ length: LENGTH }, () => ALPHABET.charAt(randomInt(ALPHABET.length))).join('');
    if (!(await tx.user.findUnique({ where: { code } }))) return code;
  }
}

/**
 * @param db the database, or an open transaction
 * @param code a code as somebody typed it; case does not matter
 * @returns the account it belongs to, or null when there is none (any more)
 */
export async function findReferrer(
  db: Db | Tx,
  code: string,
): Promise<{ id: string; emailHash: string; code: string } | null> {
  const normal = normalizeCode(code);
  if (normal === null) return null;
  return db.user.findUnique({
    where: { code: normal, deletedAt: null },
    select: { id: true, emailHash: true, code: true },
  });
}

function normalizeCode(code: string): string | null {
  const normal = code.trim().toUpperCase();
  return CODE.test(normal) ? normal : null;
}
