import type { OutboxItem, User } from '../db/generated/client.ts';
import type { Db, Tx } from '../db/transaction.ts';
import { inTransaction } from '../db/transaction.ts';
import { addSeconds, DAY_SECONDS } from '../instants.ts';
import { protectsAccount } from '../outbox/kinds.ts';
import type { MailKind, MailWork } from '../outbox/kinds.ts';
import { queueNow } from '../outbox/queue.ts';
import { hasPaid, isFirstOfMailbox } from './addresses.ts';
import { hashEmail } from './email.ts';

/** Emails that an unproven address may get within a day, all its +tags together (design: rule 12). */
const MAILS_A_DAY = 5;

/** Of these, reserved for emails that protect the first account of the mailbox (`isFirstOfMailbox`). */
const RESERVED = 2;

/**
 * Of the others, at most this many ask to confirm a change to this address: otherwise a stranger could use up the day's
 * emails, and the owner would not get the one that proves the address.
 */
const CHANGES_A_DAY = 2;

/** The data of an email that asks to confirm a change. */
const OF_A_CHANGE = JSON.stringify({ isChange: true });

/** An email, and optionally the address that it goes to even if the account's address changes. */
type Mail = MailWork & { id?: string; address?: string };

/** The emails of a mailbox that count towards its limit. */
interface MailCount {
  /** Sent within the last day and, if `countMails` was told to count them, given up. */
  sent: number;
  /** Still to be sent. */
  queued: number;
  /** Of both, those that ask to confirm a change to this address. */
  changes: number;
}

/** `full`: no more may be sent today. `waits`: the same, unless one of those that are queued fails or is dropped. */
type Room = 'free' | 'waits' | 'full';

/** @param mayUseReserve whether the email may be one of those that are reserved */
export function roomFor(
  { sent, queued, changes }: MailCount,
  isChange: boolean,
  mayUseReserve: boolean,
): Room {
  const most = mayUseReserve ? MAILS_A_DAY : MAILS_A_DAY - RESERVED;
  if (isChange && changes >= CHANGES_A_DAY) return 'full';
  if (sent + queued < most) return 'free';
  return sent < most ? 'waits' : 'full';
}

/**
 * Queues an email that somebody has asked for, unless its address is unproven and may get no more today.
 *
 * @param user locked; as it was before a deletion or a change of address
 * @returns whether it was queued
 */
export async function queueMail(tx: Tx, user: User, mail: Mail): Promise<boolean> {
  const mailbox = await mailboxOf(tx, user, mail);
  if (mailbox !== null) {
    await lockMailboxes(tx, [mailbox]);
    // Those that failed count here. Otherwise, anybody could keep us trying, all day long, to reach an address that
    // does not exist.
    const counted = await countMails(tx, mailbox, { status: { in: ['done', 'failed'] } });
    if ((await findRoom(tx, user, mail, counted)) !== 'free') return false;
  }
  await queueNow(tx, [{ ...mail, userId: user.id, mailbox }]);
  return true;
}

/**
 * Counts an email against its mailbox just before it is sent, if it was not counted when it was queued: nobody asked for
 * it, an earlier version queued it, the account has changed its address since, or an operator sends it again.
 *
 * @param user the account, as it is now
 */
export async function takeRoom(
  db: Db,
  user: User,
  item: OutboxItem,
  work: MailWork,
  now: Date,
): Promise<Room> {
  const { id } = item;
  const isOwn = user.deletedAt === null && (item.address === null || item.address === user.email);
  const mailbox = isOwn && user.emailProvenAt === null ? user.emailHash : null;
  if (mailbox === null || item.mailbox === mailbox) return 'free';
  return inTransaction(db, now, async (tx) => {
    await lockMailboxes(tx, [mailbox]);
    const room = await findRoom(tx, user, work, await countMails(tx, mailbox, { status: 'done' }));
    if (room === 'free')
      await tx.outboxItem.updateMany({ where: { id, status: 'queued' }, data: { mailbox } });
    return room;
  });
}

/**
 * Serialises the counting of mailboxes until the transaction ends. A transaction that sends to several locks all of them
 * in one call, so that two transactions cannot deadlock. On SQLite the write lock does this.
 */
export async function lockMailboxes(tx: Tx, mailboxes: readonly string[]): Promise<void> {
  if (tx.engine !== 'postgresql') return;
  for (const mailbox of mailboxes.toSorted())
    await tx.$executeRaw`SELECT pg_advisory_xact_lock(hashtextextended(${mailbox}, 0))`;
}

/** The keyed hash of an unproven mailbox to which an email goes; null when its address is proven. */
async function mailboxOf(tx: Tx, user: User, mail: Mail): Promise<string | null> {
  if (confirmsChange(mail) && mail.address !== undefined) return hashEmail(tx, mail.address);
  return user.emailProvenAt === null ? user.emailHash : null;
}

/**
 * Forgets which mailboxes were sent emails more than a day ago. After that, the hash of an address that counts for nothing
 * else is not kept.
 */
export async function forgetMailboxes(db: Db, now: Date): Promise<void> {
  // A range, because SQLite would not use the index to look for those that are not null.
  const isOver = { mailbox: { gt: '' }, endedAt: { lt: addSeconds(now, -DAY_SECONDS) } };
  await inTransaction(db, now, (tx) => tx.outboxItem.updateMany({ where: isOver, data: { mailbox: null } }));
}

async function findRoom(tx: Tx, user: User, work: MailWork, count: MailCount): Promise<Room> {
  const isChange = confirmsChange(work);
  const room = roomFor(count, isChange, false);
  const withReserve = roomFor(count, isChange, true);
  if (room === withReserve || !protectsAccount(work.kind)) return room;
  // Looks through all accounts of the mailbox, so it comes last.
  return (await mayUseReserve(tx, user, work.kind)) ? withReserve : room;
}

/** @param ended which of the emails that ended within the last day count; queued ones always do */
async function countMails(
  tx: Tx,
  mailbox: string,
  ended: { status: 'done' | { in: string[] } },
): Promise<MailCount> {
  const since = addSeconds(tx.now, -DAY_SECONDS);
  const items = await tx.outboxItem.findMany({
    where: { mailbox, OR: [{ status: 'queued' }, { ...ended, endedAt: { gt: since } }] },
    select: { kind: true, data: true, status: true },
  });
  const changes = items.filter(({ kind, data }) => kind === 'mail.prove-address' && data === OF_A_CHANGE);
  const queued = items.filter(({ status }) => status === 'queued');
  return { sent: items.length - queued.length, queued: queued.length, changes: changes.length };
}

function confirmsChange({ kind, data }: MailWork): boolean {
  return kind === 'mail.prove-address' && data?.isChange === true;
}

/**
 * Whether an email that protects an account may use the reserve. A notice may use it only if the account has been paid for,
 * because only then is the account worth stealing.
 */
async function mayUseReserve(tx: Tx, user: User, kind: MailKind): Promise<boolean> {
  const counts = kind === 'mail.reset-password' || (await hasPaid(tx, user.id, null));
  return counts && (await isFirstOfMailbox(tx, user));
}
