import type { Db } from '../db/transaction.ts';

/** One invitation as its sender may see it: of the friend, no more than a masked address. */
export interface Invitation {
  /** Null when they have deleted their account. */
  friend: string | null;
  joinedAt: Date;
  convertedAt: Date | null;
  /** Set exactly while the credit of the conversion is taken back. */
  reversedAt: Date | null;
}

/**
 * @param db the database
 * @param referrerId whose invitations
 * @param limit how many at most
 * @returns the newest of them, the newest first
 */
export async function listInvitations(db: Db, referrerId: string, limit: number): Promise<Invitation[]> {
  const rows = await db.$queryRaw<(Omit<Invitation, 'friend'> & { email: string | null })[]>`
    SELECT u."email", r."createdAt" AS "joinedAt", r."convertedAt", r."reversedAt"
    FROM "Referral" AS r JOIN "User" AS u ON u."id" = r."referredId"
    WHERE r."referrerId" = ${referrerId} ORDER BY r."createdAt" DESC, r."id" LIMIT ${limit}`;
  return rows.map(({ email, ...dates }) => ({ friend: email === null ? null : maskEmail(email), ...dates }));
}

/**
 * Enough for somebody who knows the address to recognise it, and not enough for anybody else to write to it.
 *
 * @param email an address
 * @returns the first letters of its mailbox and of its domain, and the top-level domain: `a•••@e•••.com`
 */
export function maskEmail(email: string): string {
  const at = email.lastIndexOf('@');
  const domain = email.slice(at + 1);
  const dot = domain.lastIndexOf('.');
  const first = (text: string): string => Array.from(text)[0] ?? '';
  return `${first(email)}•••@${first(domain)}•••${dot === -1 ? '' : domain.slice(dot)}`;
}
