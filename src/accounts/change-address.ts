import type { User } from '../db/generated/client.ts';
import { lockUser } from '../db/lock-user.ts';
import type { Db, Tx } from '../db/transaction.ts';
import { inTransaction, isUniqueViolation } from '../db/transaction.ts';
import { addressToProve } from '../outbox/links.ts';
import { queueNow } from '../outbox/queue.ts';
import { isUnclaimed, leaveAddress } from './addresses.ts';
import { hashEmail } from './email.ts';
import { closeAllSessions, closeOtherSessions } from './sessions.ts';
import { withPassword } from './verified-user.ts';

/** Why a change was refused. */
export type Refusal = 'wrong-password' | 'address-taken';

/** The session of the account that stays when all others end: SESSION_SECRET, and its token; null: none stays. */
export interface Place {
  secret: string;
  token: string | null;
}

/** What somebody typed to change their address, in lower case. */
export interface TypedAddress {
  currentPassword: string;
  email: string;
}

/**
 * Changes a user's address at once, for a server that sends no mail.
 *
 * @param db the database
 * @param place the session that stays
 * @param userId who asks
 * @param typed what they typed
 * @param now the instant, UTC
 * @returns why it was refused, or null when it is done
 */
export async function changeAddress(
  db: Db,
  place: Place,
  userId: string,
  typed: TypedAddress,
  now: Date,
): Promise<Refusal | null> {
  try {
    const done = await withPassword(db, byId(db, userId), typed.currentPassword, now, async (tx, user) => {
      await moveTo(tx, user, { email: typed.email, isProven: false }, place);
      return 'done';
    });
    return done === null ? 'wrong-password' : null;
  } catch (error) {
    if (isUniqueViolation(error)) return 'address-taken';
    throw error;
  }
}

/**
 * Asks for another address: a link is mailed there, and the address is changed once that proves it (design: rule 12). One
 * change is pending at a time. It reserves nothing, so an address that somebody else could lose to its owner may be asked for.
 *
 * @param db the database
 * @param userId who asks
 * @param typed what they typed; `tellOld`: whether a mail may go to the present address
 * @param now the instant, UTC
 * @returns why it was refused, or null when it is done
 */
export async function askForAddress(
  db: Db,
  userId: string,
  typed: TypedAddress & { tellOld: boolean },
  now: Date,
): Promise<Refusal | null> {
  const { email, currentPassword, tellOld } = typed;
  const done = await withPassword(db, byId(db, userId), currentPassword, now, async (tx, user) => {
    const keeps = email === user.email;
    const holder = keeps ? null : await tx.user.findUnique({ where: { email } });
    if (holder && !(await isUnclaimed(tx, holder))) return 'address-taken';
    const pending = keeps ? null : email;
    await tx.user.update({
      where: { id: userId },
      data: { pendingEmail: pending, pendingEmailAt: pending && tx.now },
    });
    if (keeps) return 'done';
    await queueNow(tx, [{ kind: 'mail.prove-address', userId, data: null }]);
    if (tellOld && user.email !== null)
      await queueNow(tx, [{ kind: 'mail.address-changing', userId, data: null, address: user.email }]);
    return 'done';
  });
  if (done === null) return 'wrong-password';
  return done === 'done' ? null : done;
}

/**
 * Mails the link once more that proves a user's address, or the one that a change is pending to.
 *
 * @param db the database
 * @param userId whose
 * @param address the one that a mail may go to
 * @param now the instant, UTC
 */
export async function mailProofAgain(db: Db, userId: string, address: string, now: Date): Promise<void> {
  await inTransaction(db, now, async (tx) => {
    const user = await lockUser(tx, userId);
    const toProve = user && addressToProve(user, tx.now);
    if (toProve?.address !== address) return;
    // The change lapses that much later.
    if (toProve.isChange) await tx.user.update({ where: { id: userId }, data: { pendingEmailAt: tx.now } });
    await queueNow(tx, [{ kind: 'mail.prove-address', userId, data: null }]);
  });
}

/**
 * Gives an account another address. That ends all its sessions but one, and its pending links, and is told to Stripe.
 *
 * @param tx the open transaction
 * @param user whose, locked
 * @param to in lower case; `isProven`: by a link that was mailed there
 * @param place the session that stays
 */
export async function moveTo(
  tx: Tx,
  user: User,
  to: { email: string; isProven: boolean },
  place: Place,
): Promise<void> {
  const { id: userId } = user;
  if (to.email !== user.email) await setAddress(tx, user, to);
  await tx.resetLink.deleteMany({ where: { userId } });
  if (place.token === null) await closeAllSessions(tx, userId);
  else await closeOtherSessions(tx, place.secret, userId, place.token);
}

async function setAddress(
  tx: Tx,
  user: User,
  { email, isProven }: { email: string; isProven: boolean },
): Promise<void> {
  const { id: userId } = user;
  const emailHash = await hashEmail(tx, email);
  // Another +tag is the same address to us: what was paid for under it still counts.
  const moved = emailHash !== user.emailHash && { emailHash, emailSetAt: tx.now };
  if (moved && (await leaveAddress(tx, user))) {
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
  const customers = await tx.customer.findMany({ where: { userId, deletedAt: null }, select: { id: true } });
  await queueNow(
    tx,
    customers.map(({ id }) => ({ kind: 'stripe.customer-address', userId, data: { customerId: id } })),
  );
}

function byId(db: Db, id: string) {
  return () => db.user.findUnique({ where: { id } });
}
