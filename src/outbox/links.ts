import { createHmac, timingSafeEqual } from 'node:crypto';

import type { OutboxItem, User } from '../db/generated/client.ts';
import { addSeconds, DAY_SECONDS, secondsBetween } from '../instants.ts';

/** What the links of mails are made of. */
export interface LinkMaker {
  publicUrl: string;
  /** SESSION_SECRET. */
  secret: string;
}

/** A link that proves an address works this long, s. A change of address that is not proven by then lapses. */
export const PROVE_SECONDS = 3 * DAY_SECONDS;

/** An address to be proven. */
export interface ToProve {
  address: string;
  /** It is the one that a change is pending to, and not the account's own. */
  isChange: boolean;
}

type ProvingUser = Pick<
  User,
  'id' | 'email' | 'emailProvenAt' | 'pendingEmail' | 'pendingEmailAt' | 'passwordHash' | 'deletedAt'
>;

/** @returns the address that a change is pending to; null when there is none, or it has lapsed */
export function pendingAddress(
  { pendingEmail, pendingEmailAt }: Pick<User, 'pendingEmail' | 'pendingEmailAt'>,
  now: Date,
): string | null {
  const isPending = pendingEmailAt !== null && addSeconds(pendingEmailAt, PROVE_SECONDS) > now;
  return isPending ? pendingEmail : null;
}

/** @returns the address that `mail.prove-address` is for; null when there is none left to be proven */
export function addressToProve(user: ProvingUser, now: Date): ToProve | null {
  if (user.deletedAt !== null || user.email === null) return null;
  const pending = pendingAddress(user, now);
  if (pending !== null) return { address: pending, isChange: true };
  return user.emailProvenAt === null ? { address: user.email, isChange: false } : null;
}

/**
 * The link of a `mail.prove-address`, and where that mail goes.
 *
 * @returns null when the mail is to be dropped: the address is proven, the change was voided, or a newer mail has its link
 */
export function proveLink(
  { publicUrl, secret }: LinkMaker,
  user: ProvingUser,
  item: Pick<OutboxItem, 'createdAt'>,
  now: Date,
): (ToProve & { url: string }) | null {
  const toProve = addressToProve(user, now);
  if (!toProve || (toProve.isChange && user.pendingEmailAt !== null && item.createdAt < user.pendingEmailAt))
    return null;
  const expiresAt = addSeconds(item.createdAt, PROVE_SECONDS);
  if (expiresAt <= now) return null;
  return { ...toProve, url: `${publicUrl}/verify/${proveToken(secret, user, toProve.address, expiresAt)}` };
}

/** The token names the account and when it expires. Another address or password voids it: the signature holds both. */
function proveToken(
  secret: string,
  { id, passwordHash }: Pick<User, 'id' | 'passwordHash'>,
  address: string,
  expiresAt: Date,
): string {
  const expiry = String(secondsBetween(new Date(0), expiresAt));
  return `${id}.${expiry}.${sign(secret, ['verify', id, expiry, address, passwordHash])}`;
}

/** @returns whose link it claims to be, or null; `provenBy` tells whether it is */
export function claimedUser(token: string): string | null {
  return /^([\w-]{1,64})\.\d{1,12}\.[\w-]{43}$/.exec(token)?.[1] ?? null;
}

/**
 * @param user the row of `claimedUser`
 * @returns the address that the link was mailed to, if it is the account's or the one that a change is pending to; null when
 *   the link does not work (any more)
 */
export function provenBy(secret: string, token: string, user: ProvingUser, now: Date): ToProve | null {
  const expiresAt = new Date(Number(token.split('.')[1]) * 1000);
  if (user.deletedAt !== null || !(expiresAt > now)) return null;
  const isFor = (address: string | null): address is string =>
    address !== null && isEqual(token, proveToken(secret, user, address, expiresAt));
  const pending = pendingAddress(user, now);
  if (isFor(pending)) return { address: pending, isChange: true };
  return isFor(user.email) ? { address: user.email, isChange: false } : null;
}

/**
 * The token of a reset link that is mailed: it is made of the outbox item's id, so that the item holds no secret. What is
 * stored of it is its hash (`ResetLink`), as of any reset link.
 */
export function resetToken(secret: string, itemId: string): string {
  return sign(secret, ['reset', itemId]);
}

export function resetUrl(publicUrl: string, token: string): string {
  return `${publicUrl}/reset/${token}`;
}

/** The link that turns mail about credit off. It works as long as the account is there, and for nothing else. */
export function unsubscribeUrl({ publicUrl, secret }: LinkMaker, userId: string): string {
  return `${publicUrl}/unsubscribe/${unsubscribeToken(secret, userId)}`;
}

function unsubscribeToken(secret: string, userId: string): string {
  return `${userId}.${sign(secret, ['unsubscribe', userId])}`;
}

/** @returns whose mail an unsubscribe link turns off, or null when it is none of ours */
export function unsubscribedUser(secret: string, token: string): string | null {
  const userId = /^([\w-]{1,64})\.[\w-]{43}$/.exec(token)?.[1];
  return userId !== undefined && isEqual(token, unsubscribeToken(secret, userId)) ? userId : null;
}

/** The parts are told apart, and none of what else is keyed with this secret is a JSON array. */
function sign(secret: string, parts: readonly (string | null)[]): string {
  return createHmac('sha256', secret).update(JSON.stringify(parts)).digest('base64url');
}

/** Compares in constant time. */
function isEqual(token: string, expected: string): boolean {
  const [a, b] = [Buffer.from(token), Buffer.from(expected)];
  return a.length === b.length && timingSafeEqual(a, b);
}
