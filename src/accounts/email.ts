import { createHmac, randomBytes } from 'node:crypto';

import * as z from 'zod';

import type { Tx } from '../db/transaction.ts';

const HASH_KEY = 'emailHashKey';

/** An email address trimmed and in lower case. At most 254 characters (RFC 5321, 4.5.3.1.3). */
export const emailAddress = z.string().trim().toLowerCase().max(254).pipe(z.email());

/** Two domains of one provider, which ignores dots. https://support.google.com/mail/answer/7436150 */
const GMAIL: ReadonlySet<string> = new Set(['gmail.com', 'googlemail.com']);

/**
 * Hashes an address so that all spellings of one person's address match: without +tags and, at Gmail, without
 * dots (design: rule 11). The key is created at its first use and kept in the database, so the hash can outlive the
 * address and reveals nothing by itself.
 *
 * @param email in lower case
 */
export async function hashEmail(tx: Tx, email: string): Promise<string> {
  return createHmac('sha256', await hashKey(tx))
    .update(canonicalAddress(email))
    .digest('base64url');
}

/**
 * Hashes one spelling of an address with the same key.
 *
 * @param email in lower case
 */
export async function hashExactly(tx: Tx, email: string): Promise<string> {
  // No address is a JSON array, so this can never equal a hash made by `hashEmail`.
  return createHmac('sha256', await hashKey(tx))
    .update(JSON.stringify(['exactly', email]))
    .digest('base64url');
}

/**
 * The form that all spellings of one person's address share.
 *
 * @param email in lower case
 */
export function canonicalAddress(email: string): string {
  const at = email.lastIndexOf('@');
  // A + at the very start begins no tag: there would be no mailbox before it.
  const [mailbox = ''] = /^.[^+]*/.exec(email.slice(0, at)) ?? [];
  const domain = email.slice(at + 1);
  return GMAIL.has(domain) ? `${mailbox.replaceAll('.', '')}@gmail.com` : `${mailbox}@${domain}`;
}

async function hashKey(tx: Tx): Promise<string> {
  const known = await tx.setting.findUnique({ where: { key: HASH_KEY } });
  if (known) return known.value;
  // Two servers may do this at once; the first key wins.
  await tx.$executeRaw`
    INSERT INTO "Setting" ("key", "value") VALUES (${HASH_KEY}, ${randomBytes(32).toString('base64url')})
    ON CONFLICT DO NOTHING`;
  return (await tx.setting.findUniqueOrThrow({ where: { key: HASH_KEY } })).value;
}
