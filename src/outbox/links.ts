import { createHmac, timingSafeEqual } from 'node:crypto';

import type { OutboxItem, User } from '../db/generated/client.ts';
import { addSeconds, DAY_SECONDS, secondsBetween } from '../instants.ts';

export interface LinkMaker {
  publicUrl: string;
  /** SESSION_SECRET. */
  secret: string;
}

/** Lifetime of a link that proves an address, s. A pending change of address lapses after the same time. */
export const PROVE_SECONDS = 3 * DAY_SECONDS;

export interface ToProve {
  address: string;
  /** True for the new address of a pending change, false for the account's own address. */
  isChange: boolean;
}

type ProvingUser = Pick<
  User,
  'id' | 'email' | 'emailProvenAt' | 'pendingEmail' | 'pendingEmailAt' | 'passwordHash' | 'deletedAt'
>;

/** Returns the new address of a pending change; null when there is none or it has lapsed. */
export function pendingAddress(
  { pendingEmail, pendingEmailAt }: Pick<User, 'pendingEmail' | 'pendingEmailAt'>,
  now: Date,
): string | null {
  const isPending = pendingEmailAt !== null && addSeconds(pendingEmailAt, PROVE_SECONDS) > now;
  return isPending ? pendingEmail : null;
}

/** Returns the address that `mail.prove-address` is for; null when nothing is left to prove. */
export function addressToProve(user: ProvingUser, now: Date): ToProve | null {
  if (user.deletedAt !== null || user.email === null) return null;
  const pending = pendingAddress(user, now);
  if (pending !== null) return { address: pending, isChange: true };
  return user.emailProvenAt === null ? { address: user.email, isChange: false } : null;
}

/**
 * Returns the link of a `mail.prove-address` and the address it goes to. Null means that the email is to be
 * dropped: the address is proven, a change to another address is pending, the change was voided, a newer email has
 * the link, or the link has expired.
 */
export function proveLink(
  { publicUrl, secret }: LinkMaker,
  user: ProvingUser,
  item: Pick<OutboxItem, 'createdAt' | 'address'>,
  now: Date,
): (ToProve & { url: string }) | null {
  const toProve = addressToProve(user, now);
  if (!toProve || (item.address !== null && item.address !== toProve.address)) return null;
  if (toProve.isChange && user.pendingEmailAt !== null && item.createdAt < user.pendingEmailAt) return null;
  const expiresAt = addSeconds(item.createdAt, PROVE_SECONDS);
  if (expiresAt <= now) return null;
  return { ...toProve, url: `${publicUrl}/verify/${proveToken(secret, user, toProve.address, expiresAt)}` };
}

/**
 * The token names the account and the expiry. The signature covers the address and the password hash too, so
 * changing either one voids the link.
 */
function proveToken(
  secret: string,
  { id, passwordHash }: Pick<User, 'id' | 'passwordHash'>,
  address: string,
  expiresAt: Date,
): string {
  const expiry = String(secondsBetween(new Date(0), expiresAt));
  return `${id}.${expiry}.${sign(secret, ['verify', id, expiry, address, passwordHash])}`;
}

/**
 * Returns the user id in the token; null when the token is malformed. The id is not verified: `provenBy` does
 * that.
 */
export function claimedUser(token: string): string | null {
  return /^([\w-]{1,64})\.\d{1,12}\.[\w-]{43}$/.exec(token)?.[1] ?? null;
}

/**
 * Returns the address that the link proves: the account's own or that of a pending change. Null when the link
 * is invalid or no longer works.
 *
 * @param user the row of `claimedUser`
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
 * The token of a mailed reset link. It is derived from the outbox item's id, so that the item holds no
 * secret. Only its hash is stored (`ResetLink`), as for any reset link.
 */
export function resetToken(secret: string, itemId: string): string {
  return sign(secret, ['reset', itemId]);
}

export function resetUrl(publicUrl: string, token: string): string {
  return `${publicUrl}/reset/${token}`;
}

type Subscriber = Pick<User, 'id' | 'email'>;

/**
 * The link that turns off mail about credit and payments. It works as long as the account has the address that the
 * email went to, and does nothing else.
 */
export function unsubscribeUrl({ publicUrl, secret }: LinkMaker, user: Subscriber): string {
  return `${publicUrl}/unsubscribe/${unsubscribeToken(secret, user)}`;
}

function unsubscribeToken(secret: string, { id, email }: Subscriber): string {
  return `${id}.${sign(secret, ['unsubscribe', id, email])}`;
}

/**
 * Returns the user id in an unsubscribe link; null when it is malformed. The id is not verified: `unsubscribes` does
 * that.
 */
export function unsubscribingUser(token: string): string | null {
  return /^([\w-]{1,64})\.[\w-]{43}$/.exec(token)?.[1] ?? null;
}

/**
 * Whether a link turns off a user's mail.
 *
 * @param user the row of `unsubscribingUser`
 */
export function unsubscribes(secret: string, token: string, user: Subscriber): boolean {
  return user.email !== null && isEqual(token, unsubscribeToken(secret, user));
}

/**
 * JSON keeps the parts apart. Nothing else keyed with this secret is a JSON array, so signatures cannot be
 * confused.
 */
function sign(secret: string, parts: readonly (string | null)[]): string {
  return createHmac('sha256', secret).update(JSON.stringify(parts)).digest('base64url');
}

/** Compares in constant time. */
function isEqual(token: string, expected: string): boolean {
  const [a, b] = [Buffer.from(token), Buffer.from(expected)];
  return a.length === b.length && timingSafeEqual(a, b);
}
