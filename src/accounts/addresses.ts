import { paidSince } from '../access/proof.ts';
import type { User } from '../db/generated/client.ts';
import type { Reader, Tx } from '../db/transaction.ts';
import type { EndedAtStripe } from './delete-account.ts';
import { canonicalAddress, hashEmail } from './email.ts';

/** The `emailHash` of a tombstone whose address does not count. No real address hashes to it. */
export const NO_ADDRESS = '';

/**
 * Decides whether an address still counts as a person's after their account leaves it (design: rule 11). It
 * counts if the address or a payment was proven while the account had it. Otherwise it may be someone else's,
 * and a trial that was used with it no longer counts against it.
 *
 * @param user locked
 * @returns whether it counts from now on
 */
export async function leaveAddress(tx: Tx, user: User): Promise<boolean> {
  // A payment in the same second in which the address was set may be older than the address, so it does not
  // count.
  if (user.emailProvenAt !== null || (await hasPaid(tx, user.id, user.emailSetAt))) return true;
  // Its trial still counts against the account itself.
  await tx.subscription.updateMany({
    where: { trialHash: user.emailHash, customer: { userId: user.id } },
    data: { trialHash: null },
  });
  return false;
}

/**
 * Makes an account's past trials no longer count, because the owner of its address claims the account from a stranger.
 *
 * @param ended what was cancelled at Stripe for it: perhaps trials whose events are still to come
 */
export async function releaseTrials(tx: Tx, { id }: User, ended: EndedAtStripe): Promise<void> {
  const own = await tx.customer.findMany({ where: { userId: id }, select: { id: true } });
  const ids = own.map((customer) => customer.id);
  // An operator may have moved a customer to another account since.
  for (const subscription of ended.subscriptions.filter(({ customerId }) => ids.includes(customerId))) {
    await tx.subscription.upsert({
      where: { id: subscription.id },
      create: { ...subscription, trialReleased: true },
      update: { trialHash: null, trialReleased: true },
    });
  }
  await tx.subscription.updateMany({
    where: { trialEnd: { not: null }, customer: { userId: id } },
    data: { trialHash: null, trialReleased: true },
  });
}

/**
 * Whether an account loses its address to whoever proves it (design: rule 12): the address was never proven
 * and nothing was ever paid. Before changing anything because of it, ask again under the user's lock.
 */
export async function isUnclaimed(db: Reader, user: User): Promise<boolean> {
  return user.emailProvenAt === null && !(await hasPaid(db, user.id, null));
}

/**
 * Whether the last emails of the day to a mailbox are reserved for this account (design: rule 12). All +tags of an
 * address share a mailbox. Of their unproven accounts, those that have paid come first, then the older ones. Otherwise
 * a stranger with an account under another +tag could use up the emails that let the owner in.
 */
export async function isFirstOfMailbox(db: Reader, user: User): Promise<boolean> {
  const { id, emailHash } = user;
  const paid = { customers: { some: { subscriptions: { some: paidSince({ not: null }) } } } };
  const older = { createdAt: { lt: user.createdAt } };
  const before = (await hasPaid(db, id, null)) ? { AND: [paid, older] } : { OR: [paid, older] };
  const sharing = { emailHash, id: { not: id }, deletedAt: null, emailProvenAt: null };
  // `findFirst`, not `count`: a mailbox can have a hundred accounts.
  return (await db.user.findFirst({ where: { AND: [sharing, before] }, select: { id: true } })) === null;
}

/**
 * Whether somebody has paid for an account.
 *
 * @param after count only payments later than this; null counts all
 */
export async function hasPaid(db: Reader, userId: string, after: Date | null): Promise<boolean> {
  const since = after === null ? { not: null } : { gt: after };
  const paid = await db.subscription.count({ where: { customer: { userId }, ...paidSince(since) } });
  return paid > 0;
}

/**
 * Keeps others from taking an address until the transaction ends. Call before giving it to an account. On PostgreSQL
 * this takes a lock: otherwise a race would end in a unique violation, and PostgreSQL would write the address to its
 * log.
 *
 * @param email in lower case
 * @returns the id of the account that has the address, or null
 */
export async function reserveAddress(tx: Tx, email: string): Promise<string | null> {
  if (tx.engine === 'postgresql')
    await tx.$executeRaw`SELECT pg_advisory_xact_lock(hashtextextended(${email}, 0))`;
  const holder = await tx.user.findUnique({ where: { email }, select: { id: true } });
  return holder?.id ?? null;
}

/** Accounts that a mailbox can have, its plain address included, before another spelling is refused. */
const ACCOUNTS_OF_MAILBOX = 100;

/**
 * Whether to refuse an address because it is another spelling of a mailbox that already has too many accounts: anybody
 * can sign up with thousands of +tags, and much is decided by looking at all accounts of a mailbox. The plain spelling is
 * never refused, so that no stranger can keep the mailbox's owner out.
 *
 * @param email in lower case
 * @param ownId the account that changes its address; null for a new one
 */
export async function hasTooManySpellings(tx: Tx, email: string, ownId: string | null): Promise<boolean> {
  const mailbox = (address: string): string => address.slice(0, address.lastIndexOf('@'));
  if (mailbox(email) === mailbox(canonicalAddress(email))) return false;
  const others = await tx.user.findMany({
    where: {
      emailHash: await hashEmail(tx, email),
      deletedAt: null,
      ...(ownId !== null && { id: { not: ownId } }),
    },
    select: { id: true },
    take: ACCOUNTS_OF_MAILBOX,
  });
  return others.length >= ACCOUNTS_OF_MAILBOX;
}
