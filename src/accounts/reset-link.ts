import { randomUUID } from 'node:crypto';

import type { ResetLink, User } from '../db/generated/client.ts';
import { lockCustomersOf, lockUser } from '../db/lock-user.ts';
import type { Db, Reader, Tx } from '../db/transaction.ts';
import { inTransaction } from '../db/transaction.ts';
import { addSeconds, wholeSeconds } from '../instants.ts';
import { resetToken } from '../outbox/links.ts';
import { captureReferral } from '../referrals/capture.ts';
import { queueExpiry } from '../stripe/close-checkout.ts';
import { hasPaidAtStripe } from '../stripe/has-paid.ts';
import { isUnclaimed, releaseTrials } from './addresses.ts';
import { queueAddressForStripe } from './change-address.ts';
import { setPassword } from './change-password.ts';
import { cancelSubscriptions, hasMoreToEnd } from './delete-account.ts';
import type { CancellationRefusal, EndedAtStripe } from './delete-account.ts';
import { queueMail } from './mail-limit.ts';
import { hashPassword } from './passwords.ts';
import { endResetLinks } from './reset-links-of-address.ts';
import { shutOut } from './shut-out.ts';
import { retryOnConflict, stopPayments } from './stop-payments.ts';
import type { PaymentParts, StoppedPayments } from './stop-payments.ts';
import { hashToken, newToken } from './tokens.ts';

/** Lifetime of a reset link, s. */
export const RESET_LINK_SECONDS = 3_600;

/** A used link is kept this long, s. A double click sends a form twice within this time. */
const USED_LINK_SECONDS = 60;

/**
 * Creates the token of a single-use reset link that an operator hands out. The account's other links stop working
 * (`endResetLinks`).
 *
 * @returns the token, of which only the hash is stored; null when the account is gone
 */
export async function createResetToken(tx: Tx, secret: string, userId: string): Promise<string | null> {
  const user = await lockUser(tx, userId);
  if (!user || user.deletedAt) return null;
  const token = newToken();
  await endResetLinks(tx, user);
  await createLink(tx, secret, userId, token, false);
  return token;
}

/**
 * Queues an email with a reset link if an account has the address. The caller must not show whether one has. While such
 * an email to an unproven address is still waiting to be sent, no second one is queued, because only five emails a day
 * may go there. The older mailed links of a claimed account stop working.
 *
 * @param email in lower case
 * @returns whether it queued one
 */
export async function mailResetLink(db: Db, secret: string, email: string, now: Date): Promise<boolean> {
  const found = await db.user.findUnique({ where: { email } });
  if (!found) return false;
  return inTransaction(db, now, async (tx) => {
    const user = await lockUser(tx, found.id);
    // The address was changed or the account deleted in the meantime. The email would go to someone else or to
    // nobody.
    if (user?.email !== email) return false;
    if (user.emailProvenAt === null && (await isLinkWaiting(tx, secret, user.id, tx.now))) return false;
    const id = randomUUID();
    // Name the recipient: the account's address may change before the email is sent.
    if (!(await queueMail(tx, user, { id, kind: 'mail.reset-password', data: null, address: email })))
      return false;
    // Anybody can have a link mailed. It must not void a link that an operator handed out. If the account is unclaimed,
    // a stranger may hold it, so it must not void an older mailed link either: the new email might never arrive.
    if (!(await isUnclaimed(tx, user)))
      await tx.resetLink.deleteMany({ where: { userId: user.id, mailed: true } });
    await createLink(tx, secret, user.id, resetToken(secret, id), true);
    return true;
  });
}

/** Whether an email with a link that works is queued. */
async function isLinkWaiting(db: Reader, secret: string, userId: string, now: Date): Promise<boolean> {
  const queued = await db.outboxItem.findMany({
    where: { userId, kind: 'mail.reset-password', status: 'queued' },
    select: { id: true },
  });
  if (queued.length === 0) return false;
  const tokenHash = { in: queued.map(({ id }) => hashToken(secret, resetToken(secret, id))) };
  return (
    (await db.resetLink.count({ where: { userId, tokenHash, used: false, expiresAt: { gt: now } } })) > 0
  );
}

async function createLink(
  tx: Tx,
  secret: string,
  userId: string,
  token: string,
  mailed: boolean,
): Promise<void> {
  const expiresAt = addSeconds(tx.now, RESET_LINK_SECONDS);
  await tx.resetLink.create({ data: { tokenHash: hashToken(secret, token), userId, expiresAt, mailed } });
}

/** A reset link that works. */
export interface WorkingResetLink {
  user: User;
  /** The link was mailed to the account's address, so using it proves the address. */
  mailed: boolean;
  /** The account is unclaimed (never proven, never paid): using a mailed link empties it. */
  startsAfresh: boolean;
}

/** `link-gone`: the link is invalid or no longer works. */
export type ResetOutcome = 'done' | 'link-gone' | CancellationRefusal;

/** @returns null when the link is invalid or no longer works */
export async function findResetLink(
  db: Db,
  secret: string,
  token: string,
  now: Date,
): Promise<WorkingResetLink | null> {
  const link = await findLink(db, secret, token, now);
  if (!link || link.used) return null;
  const { user, mailed } = link;
  return { user, mailed, startsAfresh: mailed && (await isUnclaimed(db, user)) };
}

/**
 * The account whose password was set with a link a moment ago; null when there is none. The second request of
 * a double click needs it, because the browser shows only that one's answer.
 */
export async function findJustReset(db: Db, secret: string, token: string, now: Date): Promise<User | null> {
  const link = await findLink(db, secret, token, now);
  return link?.used ? link.user : null;
}

/** Returns null when the link is invalid, has expired, or waits for an account. */
async function findLink(
  db: Reader,
  secret: string,
  token: string,
  now: Date,
): Promise<{ user: User; mailed: boolean; used: boolean } | null> {
  const where = { tokenHash: hashToken(secret, token), expiresAt: { gt: wholeSeconds(now) } };
  const link = await db.resetLink.findUnique({ where, include: { user: true } });
  return link?.user ? { ...link, user: link.user } : null;
}

/** What a password reset needs besides the link. */
export interface ResetInput {
  password: string;
  /** Whether mail is on. If so, the user is notified, unless `queueMail` refuses. */
  mail: boolean;
  /** The invitation that the browser remembers. */
  code: string | null;
}

/**
 * Uses up a reset link: sets the new password and ends all the user's sessions and pending links (`endResetLinks`). A
 * mailed link also proves the address. An account that was never proven or paid for is then emptied, because someone
 * else may have created it. Such an account is shut out before Stripe is asked (see `shutOut`).
 *
 * @param parts used when a mailed link is the first proof of the address
 * @returns `done`, or why the link was not used up
 * @throws StripeError when the account may have to be emptied, and Stripe cannot be reached or refuses
 */
export async function resetPassword(
  parts: PaymentParts,
  secret: string,
  token: string,
  typed: ResetInput,
  now: Date,
): Promise<ResetOutcome> {
  // Check before hashing, which is slow: anyone can send a token.
  if (!(await findResetLink(parts.db, secret, token, now))) return 'link-gone';
  const passwordHash = await hashPassword(typed.password);
  return retryOnConflict(() => tryReset(parts, secret, token, { ...typed, passwordHash }, now));
}

async function tryReset(
  parts: PaymentParts,
  secret: string,
  token: string,
  typed: Omit<ResetInput, 'password'> & { passwordHash: string },
  now: Date,
): Promise<ResetOutcome> {
  const { db, stripe } = parts;
  const link = await findResetLink(db, secret, token, now);
  if (!link) return 'link-gone';
  const userId = link.user.id;
  let payments: StoppedPayments | null = null;
  let ended: EndedAtStripe | null = null;
  if (link.startsAfresh) {
    const isShutOut = await inTransaction(db, now, async (tx) => {
      const found = await lockLink(tx, secret, token, userId);
      if (!found?.startsAfresh) return false;
      await shutOut(tx, userId);
      return true;
    });
    if (!isShutOut) return 'conflict';
    payments = await stopPayments(parts, userId);
    if (payments.state === 'pending') return 'payment-pending';
    // A plan that has not been paid for would be charged to the stranger's card.
    if (payments.state === 'none') {
      const cancelled = await cancelSubscriptions(parts, userId, payments.checkout);
      if (typeof cancelled === 'string') return cancelled;
      ended = cancelled;
      // A trial may have been charged in the meantime.
      if (await hasPaidAtStripe(parts, userId)) payments = { ...payments, state: 'paid' };
    }
  }
  return inTransaction(db, now, async (tx) => {
    await lockCustomersOf(tx, userId);
    const found = await lockLink(tx, secret, token, userId);
    if (!found) return 'link-gone';
    const { user, row } = found;
    // An account that was paid for is not emptied, even if we have not heard of the payment yet.
    const startsAfresh = found.startsAfresh && payments?.state !== 'paid';
    if (startsAfresh) {
      // Without `ended`, the account was claimed when we looked, so nobody was shut out and no payment was stopped.
      if (!ended || (await hasMoreToEnd(tx, userId, ended))) return 'conflict';
      await startAfresh(tx, user, typed.code, ended, stripe !== null);
    }
    await setPassword(tx, userId, typed.passwordHash, {
      // A stranger who had the account until now may have turned mail off.
      ...(row.mailed && user.emailProvenAt === null && { emailProvenAt: tx.now, mailOff: false }),
    });
    // In the customer portal, a previous holder of the account may have changed the address that Stripe sends receipts
    // to. Stripe is not told later addresses of a retired customer, unless the customer still has a live plan.
    await queueAddressForStripe(tx, userId, user.email);
    await retireCustomers(tx, userId);
    await (row.mailed ? tx.resetLink.deleteMany({ where: { userId } }) : endResetLinks(tx, user));
    const expiresAt = addSeconds(tx.now, USED_LINK_SECONDS);
    await tx.resetLink.create({ data: { ...row, used: true, expiresAt } });
    const proven = row.mailed ? { ...user, emailProvenAt: user.emailProvenAt ?? tx.now } : user;
    if (typed.mail) await queueMail(tx, proven, { kind: 'mail.password-changed', data: null });
    return 'done';
  });
}

/**
 * Keeps the account's customers out of new checkouts, and has an open checkout closed. Somebody else may have started them,
 * and may still have a page of Stripe's portal open: there, they could see and change the plan that the owner buys later.
 * `ensureCustomer` creates another customer then.
 */
async function retireCustomers(tx: Tx, userId: string): Promise<void> {
  await tx.customer.updateMany({
    where: { userId, deletedAt: null, retiredAt: null },
    data: { retiredAt: tx.now },
  });
  // Unless `startAfresh` has deleted it, the checkout's row stays: it may have been paid already, and nothing more must be
  // sold before its webhook arrives.
  const checkout = await tx.checkout.findUnique({ where: { userId } });
  if (checkout) await queueExpiry(tx, checkout);
}

/** A reset link and its account, under the account's lock; null when the link no longer works there. */
async function lockLink(
  tx: Tx,
  secret: string,
  token: string,
  userId: string,
): Promise<{ user: User; row: ResetLink; startsAfresh: boolean } | null> {
  const user = await lockUser(tx, userId);
  const where = { tokenHash: hashToken(secret, token), userId, used: false, expiresAt: { gt: tx.now } };
  const row = await tx.resetLink.findUnique({ where });
  if (!user || !row) return null;
  return { user, row, startsAfresh: row.mailed && (await isUnclaimed(tx, user)) };
}

/**
 * Removes what a stranger may have put into an account: deletes its backups and its checkout, and replaces its open
 * invitation with the one that the owner came with. Its trial no longer counts against the address.
 *
 * @param user locked
 * @param hasEnded whether Stripe has ended what its checkout sold
 */
async function startAfresh(
  tx: Tx,
  user: User,
  code: string | null,
  ended: EndedAtStripe,
  hasEnded: boolean,
): Promise<void> {
  const userId = user.id;
  await tx.backup.deleteMany({ where: { userId } });
  await releaseTrials(tx, user, ended);
  await tx.referral.deleteMany({ where: { referredId: userId, convertedAt: null } });
  await captureReferral(tx, user, code);
  // If another request is creating this checkout's session right now, it finds the row gone and expires the session
  // itself.
  await tx.checkout.deleteMany({ where: { userId, ...(!hasEnded && { sessionId: null }) } });
}
