import { isInUse } from '../access/customers.ts';
import type { User } from '../db/generated/client.ts';
import { lockUser } from '../db/lock-user.ts';
import type { Db, Tx } from '../db/transaction.ts';
import { inTransaction } from '../db/transaction.ts';
import { addressToProve } from '../outbox/links.ts';
import type { ToProve } from '../outbox/links.ts';
import { queueNow } from '../outbox/queue.ts';
import { hasTooManySpellings, isUnclaimed, leaveAddress, reserveAddress } from './addresses.ts';
import { hashEmail } from './email.ts';
import { lockMailboxes, queueMail } from './mail-limit.ts';
import { releaseResetLinks } from './reset-links-of-address.ts';
import { closeAllSessions, closeOtherSessions } from './sessions.ts';
import { withPassword } from './verified-user.ts';

/** Why a change was refused. */
export type Refusal = 'wrong-password' | 'address-taken' | 'too-many-spellings' | 'too-many-mails';

/**
 * The session to keep when the account's others end: its token, and SESSION_SECRET, by which it is found. With a null
 * token, none is kept.
 */
export interface KeptSession {
  secret: string;
  token: string | null;
}

export interface TypedAddress {
  currentPassword: string;
  /** In lower case. */
  email: string;
}

/**
 * Changes a user's address at once, for a server that sends no mail. If the user enters the
 * address that the account already has, this only cancels a pending change.
 *
 * @returns why it was refused, or null when done
 */
export async function changeAddress(
  db: Db,
  kept: KeptSession,
  userId: string,
  typed: TypedAddress,
  now: Date,
): Promise<Refusal | null> {
  const { email } = typed;
  return change(db, userId, typed, now, async (tx, user) => {
    if ((await reserveAddress(tx, email)) !== null) return 'address-taken';
    if (await hasTooManySpellings(tx, email, userId)) return 'too-many-spellings';
    await switchAddress(tx, user, { email, isProven: false }, kept);
    return null;
  });
}

/**
 * Requests another address: a link is mailed there, and the address changes once the link proves it (design: rule 12).
 * Only one change is pending at a time. It reserves nothing, so a user may request the address of an unclaimed
 * account, which would lose it to them. If the user enters the address that the account already has, this cancels a
 * pending change.
 *
 * @returns why it was refused, or null when done
 */
export async function requestAddressChange(
  db: Db,
  userId: string,
  typed: TypedAddress,
  now: Date,
): Promise<Refusal | null> {
  const { email } = typed;
  return change(db, userId, typed, now, async (tx, user) => {
    const holder = await tx.user.findUnique({ where: { email } });
    if (holder && !(await isUnclaimed(tx, holder))) return 'address-taken';
    await lockMailboxes(tx, [user.emailHash, await hashEmail(tx, email)]);
    if (!(await queueMail(tx, user, proofMail({ address: email, isChange: true })))) return 'too-many-mails';
    if (user.email !== null)
      await queueMail(tx, user, { kind: 'mail.address-changing', data: null, address: user.email });
    await tx.user.update({ where: { id: userId }, data: { pendingEmail: email, pendingEmailAt: tx.now } });
    return null;
  });
}

/** Checks the password, and changes the address under the user's lock. */
async function change(
  db: Db,
  userId: string,
  { email, currentPassword }: TypedAddress,
  now: Date,
  act: (tx: Tx, user: User) => Promise<Refusal | null>,
): Promise<Refusal | null> {
  const done = await withPassword(db, byId(db, userId), currentPassword, now, async (tx, user) => {
    if (email !== user.email) return (await act(tx, user)) ?? 'done';
    await voidChange(tx, userId);
    return 'done';
  });
  if (done === null) return 'wrong-password';
  return done === 'done' ? null : done;
}

/**
 * The email that proves an address. It keeps the address, so that it goes nowhere else if the account's address or pending
 * address changes before it is sent.
 */
export function proofMail({ address, isChange }: ToProve) {
  return { kind: 'mail.prove-address', data: { isChange }, address } as const;
}

/**
 * Mails the link that proves a user's address, or their pending one, once more.
 *
 * @param address the only address that the email may be sent to
 * @returns whether it was queued, or else why not
 */
export async function mailProofAgain(
  db: Db,
  userId: string,
  address: string,
  now: Date,
): Promise<'queued' | 'not-to-be-proven' | 'too-many-mails'> {
  return inTransaction(db, now, async (tx) => {
    const user = await lockUser(tx, userId);
    const toProve = user && addressToProve(user, tx.now);
    if (!toProve || toProve.address !== address) return 'not-to-be-proven';
    if (!(await queueMail(tx, user, proofMail(toProve)))) return 'too-many-mails';
    // Extends the deadline of the change.
    if (toProve.isChange) await tx.user.update({ where: { id: userId }, data: { pendingEmailAt: tx.now } });
    return 'queued';
  });
}

/**
 * Gives an account another address. This ends its pending links and all its sessions but one, and queues the
 * change at Stripe.
 *
 * @param user locked
 * @param to in lower case; `isProven`: by a link mailed there
 */
export async function switchAddress(
  tx: Tx,
  user: User,
  to: { email: string; isProven: boolean },
  kept: KeptSession,
): Promise<void> {
  const { id: userId } = user;
  await releaseResetLinks(tx, user);
  await setAddress(tx, user, to);
  const { secret, token } = kept;
  const isKept = token !== null && (await closeOtherSessions(tx, secret, userId, token));
  if (!isKept) await closeAllSessions(tx, userId);
}

/** Voids a pending change, so that its link stops working. */
async function voidChange(tx: Tx, userId: string): Promise<void> {
  await tx.user.update({ where: { id: userId }, data: { pendingEmail: null, pendingEmailAt: null } });
}

async function setAddress(
  tx: Tx,
  user: User,
  { email, isProven }: { email: string; isProven: boolean },
): Promise<void> {
  const { id: userId } = user;
  const emailHash = await hashEmail(tx, email);
  // A different +tag is the same address to us: what was paid or proven under the old one still counts.
  const moved = emailHash !== user.emailHash && { emailHash, emailSetAt: tx.now };
  const counts = moved ? await leaveAddress(tx, user) : user.emailProvenAt !== null && !isProven;
  if (counts) {
    const former = { userId, emailHash: user.emailHash };
    await tx.formerAddress.upsert({ where: { userId_emailHash: former }, create: former, update: {} });
  }
  await tx.user.update({
    where: { id: userId },
    data: {
      email,
      emailProvenAt: isProven ? tx.now : null,
      pendingEmail: null,
      pendingEmailAt: null,
      ...moved,
    },
  });
  await queueAddressForStripe(tx, userId);
}

/**
 * Queues an update of the address at Stripe for each of the account's customers, except those that are no longer in
 * use: every reset link can add one of these.
 *
 * @param forRetired the address to send even if the customer is retired before it is sent; null sends none then
 */
export async function queueAddressForStripe(
  tx: Tx,
  userId: string,
  forRetired: string | null = null,
): Promise<void> {
  const customers = await tx.customer.findMany({
    where: { userId, deletedAt: null },
    include: { subscriptions: { select: { status: true, counts: true } } },
  });
  await queueNow(
    tx,
    customers.filter(isInUse).map(({ id }) => ({
      kind: 'stripe.customer-address',
      userId,
      data: { customerId: id },
      ...(forRetired !== null && { address: forRetired }),
    })),
  );
}

function byId(db: Db, id: string) {
  return () => db.user.findUnique({ where: { id } });
}
