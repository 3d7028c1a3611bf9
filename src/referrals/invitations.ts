import type { Db } from '../db/transaction.ts';

/** An invitation as its sender may see it: the friend's address is masked. */
export interface Invitation {
  /** Null when the friend has deleted their account. */
  friend: string | null;
  joinedAt: Date;
  convertedAt: Date | null;
  /** Set while the conversion is reversed. */
  reversedAt: Date | null;
}

/** The newest invitations, newest first. */
export async function listInvitations(db: Db, referrerId: string, limit: number): Promise<Invitation[]> {
  const rows = await db.$queryRaw<(Omit<Invitation, 'friend'> & { email: string | null })[]>`
    SELECT u."email", r."createdAt" AS "joinedAt", r."convertedAt", r."reversedAt"
    FROM "Referral" AS r JOIN "User" AS u ON u."id" = r."referredId"
    WHERE r."referrerId" = ${referrerId} ORDER BY r."createdAt" DESC, r."id" LIMIT ${limit}`;
  return rows.map(({ email, ...dates }) => ({ friend: email === null ? null : maskEmail(email), ...dates }));
}

/** Longer top-level domains are masked, too: a stranger could write a message to the referrer in one. */
const LONGEST_SHOWN = 10;

/** Masks an address as `a•••@e•••.com`: recognisable to someone who knows it, useless to anyone else. */
export function maskEmail(email: string): string {
  const at = email.lastIndexOf('@');
  const domain = email.slice(at + 1);
  const dot = domain.lastIndexOf('.');
  const first = (text: string): string => Array.from(text)[0] ?? '';
  const last = dot === -1 ? '' : domain.slice(dot + 1);
  return `${first(email)}•••@${first(domain)}•••${last === '' || last.length > LONGEST_SHOWN ? '' : `.${last}`}`;
}
