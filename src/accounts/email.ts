import { createHmac, randomBytes } from 'node:crypto';

import * as z from 'zod';

import type { Tx } from '../db/transaction.ts';

const HASH_KEY = 'emailHashKey';

/** An e-mail address as somebody typed it; comes out trimmed and in lower case. At most 254 characters (RFC 5321, 4.5.3.1.3). */
export const emailAddress = z.string().trim().toLowerCase().max(254).pipe(z.email());

/** Two names of one provider, which ignores dots. https://support.google.com/mail/answer/7436150 */
const GMAIL: ReadonlySet<string> = new Set(['gmail.com', 'googlemail.com']);

/**
 * One person's addresses have one hash: without +tags and, at Gmail, without dots (design: rule 11). The key was made with
 * the database and is kept in it, so that the hash outlives the address and tells nothing to anybody who sees only the
 * hash.
 *
 * @param tx the open transaction
 * @param email the address, in lower case
 * @returns the keyed hash
 */
export async function hashEmail(tx: Tx, email: string): Promise<string> {
  return createHmac('sha256', await hashKey(tx))
    .update(personOf(email))
    .digest('base64url');
}

function personOf(email: string): string {
  const at = email.lastIndexOf('@');
  const [mailbox = ''] = email.slice(0, at).split('+');
  const domain = email.slice(at + 1);
  return GMAIL.has(domain) ? `${mailbox.replaceAll('.', '')}@gmail.com` : `${mailbox}@${domain}`;
}

async function hashKey(tx: Tx): Promise<string> {
  const known = await tx.setting.findUnique({ where: { key: HASH_KEY } });
  if (known) return known.value;
  // Two servers may do this at once; the first one's key holds.
  await tx.$executeRaw`
    INSERT INTO "Setting" ("key", "value") VALUES (${HASH_KEY}, ${randomBytes(32).toString('base64url')})
    ON CONFLICT DO NOTHING`;
  return (await tx.setting.findUniqueOrThrow({ where: { key: HASH_KEY } })).value;
}
