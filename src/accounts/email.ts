import { createHmac, randomBytes } from 'node:crypto';

import { z } from 'zod';

import type { Tx } from '../db/transaction.ts';

const HASH_KEY = 'emailHashKey';

/** An e-mail address as somebody typed it; comes out trimmed and in lower case. At most 254 characters (RFC 5321, 4.5.3.1.3). */
export const emailAddress = z.string().trim().toLowerCase().max(254).pipe(z.email());

/**
 * One person's addresses under different +tags have one hash (design: rule 11). The key was made with the database and is
 * kept in it, so that the hash outlives the address and tells nothing to whoever sees only the hash.
 *
 * @param tx the open transaction
 * @param email the address, in lower case
 * @returns the keyed hash of the address without its +tag
 */
export async function hashEmail(tx: Tx, email: string): Promise<string> {
  return createHmac('sha256', await hashKey(tx))
    .update(withoutTag(email))
    .digest('base64url');
}

function withoutTag(email: string): string {
  const at = email.lastIndexOf('@');
  const [mailbox = ''] = email.slice(0, at).split('+');
  return mailbox + email.slice(at);
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
