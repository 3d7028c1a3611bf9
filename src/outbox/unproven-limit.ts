import { Prisma } from '../db/generated/client.ts';
import type { OutboxItem, User } from '../db/generated/client.ts';
import type { Db, Reader } from '../db/transaction.ts';
import { inTransaction } from '../db/transaction.ts';
import { addSeconds, DAY_SECONDS } from '../instants.ts';
import { LEASE_SECONDS } from './items.ts';
import { mayUseReserve } from './kinds.ts';
import type { MailWork } from './kinds.ts';

/** Maximum number of emails to an unproven address within a day (design: rule 12). */
export const MAILS_TO_UNPROVEN = 5;

/** Of these, reserved for emails that protect an account, such as links that reset its password. */
export const RESERVED_FOR_SECURITY = 2;

/**
 * The data of an email that proves a new address. It does not count towards the daily limit of the account's own
 * address.
 */
const TO_A_NEW_ADDRESS = JSON.stringify({ isChange: true });

type Mailbox = Pick<User, 'emailHash' | 'emailProvenAt'>;

/** Emails to all unproven accounts with an address or another +tag of it. */
interface MailboxCount {
  sentToday: number;
  /** Those in flight, which may still fail. */
  beingSent: number;
}

/** Whether an email may be sent now, must wait for those in flight, or is refused because the day's limit is reached. */
export type Place = 'granted' | 'waits' | 'refused';

/** Decides whether an unproven address may get one more email of this kind. */
export function placeFor(kind: MailWork['kind'], { sentToday, beingSent }: MailboxCount): Place {
  const most = mayUseReserve(kind) ? MAILS_TO_UNPROVEN : MAILS_TO_UNPROVEN - RESERVED_FOR_SECURITY;
  if (sentToday >= most) return 'refused';
  return sentToday + beingSent < most ? 'granted' : 'waits';
}

/**
 * Takes one of the day's places of an unproven address for an email that is about to be sent. The place is taken under a lock
 * of the mailbox, and counts until the outcome is stored or the lease ends: emails sent at the same time, by other servers
 * too, cannot pass the limit together.
 *
 * @param item leased
 */
export async function takePlace(
  db: Db,
  { id, kind }: { id: string; kind: MailWork['kind'] },
  user: Mailbox,
  now: Date,
): Promise<Place> {
  return inTransaction(db, now, async (tx) => {
    if (tx.engine === 'postgresql')
      await tx.$executeRaw`SELECT pg_advisory_xact_lock(hashtextextended(${user.emailHash}, 0))`;
    const place = placeFor(kind, await countOfMailbox(tx, user, tx.now, id));
    if (place === 'granted')
      await tx.outboxItem.updateMany({ where: { id, status: 'queued' }, data: { sendingAt: tx.now } });
    return place;
  });
}

/** How many emails went to the unproven accounts of a mailbox within the last day; 0 if this account's address is proven. */
export async function countSentToday(db: Reader, user: Mailbox, now: Date): Promise<number> {
  return user.emailProvenAt === null ? (await countOfMailbox(db, user, now, '')).sentToday : 0;
}

/** @param ownId an item that is not counted */
async function countOfMailbox(
  db: Reader,
  { emailHash }: Mailbox,
  now: Date,
  ownId: string,
): Promise<MailboxCount> {
  // CROSS JOIN: SQLite then begins with the accounts. Otherwise it would look through every email ever sent.
  const counted = (which: Prisma.Sql): Prisma.Sql => Prisma.sql`
    SELECT COUNT(*) FROM "User" AS u CROSS JOIN "OutboxItem" AS o
    WHERE u."emailHash" = ${emailHash} AND u."emailProvenAt" IS NULL AND o."userId" = u."id"
      AND ${which} AND o."kind" LIKE 'mail.%'
      AND NOT (o."kind" = 'mail.prove-address' AND o."data" = ${TO_A_NEW_ADDRESS})`;
  const sent = Prisma.sql`o."status" = 'done' AND o."endedAt" > ${addSeconds(now, -DAY_SECONDS)}`;
  const sending = Prisma.sql`
    o."status" = 'queued' AND o."sendingAt" > ${addSeconds(now, -LEASE_SECONDS)} AND o."id" <> ${ownId}`;
  // In one statement: an email that is stored as sent between two of them would be missing from both.
  const [count] = await db.$queryRaw<[{ sent: number | bigint; sending: number | bigint }]>`
    SELECT (${counted(sent)}) AS "sent", (${counted(sending)}) AS "sending"`;
  return { sentToday: Number(count.sent), beingSent: Number(count.sending) };
}

/**
 * Whether an email counts towards the daily limit of the account's own address.
 *
 * @param address the recipient that was fixed when the email was queued; null means the account's current address
 */
export function goesToOwnAddress(
  kind: MailWork['kind'],
  { address }: Pick<OutboxItem, 'address'>,
  { email }: Pick<User, 'email'>,
): boolean {
  // The address of an email with a link is fixed when it is queued. If it is the account's own, the email counts too.
  const isLink = kind === 'mail.prove-address' || kind === 'mail.reset-password';
  return address === null || (isLink && address === email);
}
