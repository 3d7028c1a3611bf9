import { anyLiveAndKnown, isLive } from '../access/live.ts';
import { currentOf } from '../access/overview.ts';
import { subscriptionsOf } from '../access/subscriptions.ts';
import { tierOf } from '../access/tier.ts';
import { Prisma } from '../db/generated/client.ts';
import type { OutboxItem, Referral, Subscription, User } from '../db/generated/client.ts';
import type { Db } from '../db/transaction.ts';
import { addSeconds, DAY_SECONDS } from '../instants.ts';
import { ABOUT_DAYS, isDaysMail, thinksToHaveDays } from './days-mail.ts';
import { mayUseReserve } from './kinds.ts';
import type { MailWork } from './kinds.ts';

/**
 * An account's plan. `live`: it goes on for now. `another`: the same, and it is not the one whose payment failed.
 * `first-payment-due`: a trial is over, and its plan starts once it is paid for. `unpaid`: Stripe has stopped trying;
 * the plan goes on, or starts, once its invoice is paid. `paused`: it goes on once we resume it. `not-started`: the
 * payment in the checkout failed. `ended`: the plan has ended, or there is none.
 */
export type PlanState =
  | 'live'
  | 'another'
  | 'first-payment-due'
  | 'unpaid'
  | 'paused'
  | 'not-started'
  | 'ended';

/**
 * The data of an email that proves a new address. It does not count towards the daily limit of the account's own
 * address.
 */
const TO_A_NEW_ADDRESS = JSON.stringify({ isChange: true });

/** Mail that depends on the account's plan. */
const ABOUT_A_PLAN: ReadonlySet<MailWork['kind']> = new Set([
  'mail.payment-failed',
  'mail.days-running',
  'mail.days-ending',
  'mail.days-ended',
]);

/**
 * The facts that decide whether an email is still true and that fill in its text. They are read when the email is
 * sent, not when it was queued.
 */
export interface MailFacts {
  /** Null for mail to the operator. */
  user: User | null;
  /** The conversion that the email is about; null when it is about none. */
  referral: Pick<Referral, 'convertedAt' | 'reversedAt'> | null;
  /**
   * When the oldest earlier email about the same days that is still queued is tried next; null when none is. Read only
   * for mail about days, otherwise null.
   */
  olderDueAt: Date | null;
  /**
   * Whether the reader thinks that they have these days; null when we cannot tell, or while an earlier email is queued.
   * Read only for mail about days, otherwise null.
   */
  thinksToHaveDays: boolean | null;
  /** Whether the invoice that the email is about has been paid. */
  invoicePaid: boolean;
  /** The state of the account's plan. Read only for mail that depends on it (`ABOUT_A_PLAN`), otherwise `ended`. */
  plan: PlanState;
  /**
   * Emails sent within the last day to all unproven accounts with this address or another +tag of it. Counted only for
   * an email to the account's own address (`goesToOwnAddress`), and only if that is unproven; otherwise 0.
   */
  sentToday: number;
  /** Older such emails that are being sent or about to be, of mail about security and of other mail. */
  underWay: UnderWay;
}

interface UnderWay {
  security: number;
  others: number;
}

export async function readMailFacts(db: Db, item: OutboxItem, work: MailWork, now: Date): Promise<MailFacts> {
  const { userId, address } = item;
  const { data } = work;
  const user = userId === null ? null : await db.user.findUnique({ where: { id: userId } });
  const referral =
    data !== null && 'referralId' in data
      ? await db.referral.findUnique({
          where: { id: data.referralId },
          select: { convertedAt: true, reversedAt: true },
        })
      : null;
  const invoice =
    data !== null && 'invoiceId' in data
      ? await db.invoice.findUnique({
          where: { id: data.invoiceId },
          select: { paidAt: true, subscriptionId: true },
        })
      : null;
  const failedId =
    work.kind === 'mail.payment-failed' ? (work.data.subscriptionId ?? invoice?.subscriptionId) : null;
  const plan =
    ABOUT_A_PLAN.has(work.kind) && userId !== null
      ? planStateOf(await subscriptionsOf(db, userId), work.kind, failedId ?? null)
      : 'ended';
  // Anybody can make an account with thousands of emails to other addresses, and counting reads them all.
  const counts = user?.deletedAt === null && goesToOwnAddress(work.kind, address, user);
  const sentToday = counts ? await countSentToday(db, user, now) : 0;
  const underWay = counts ? await countUnderWay(db, user, item) : { security: 0, others: 0 };
  const earlier = isDaysMail(work)
    ? await readEarlier(db, item, work.data.referralId)
    : { olderDueAt: null, thinksToHaveDays: null };
  return { user, referral, ...earlier, invoicePaid: invoice?.paidAt != null, plan, sentToday, underWay };
}

/**
 * How many emails went to the unproven accounts of a mailbox within the last day; 0 when the account's own address is
 * proven.
 */
export async function countSentToday(db: Db, user: Mailbox, now: Date): Promise<number> {
  const sent = Prisma.sql`o."status" = 'done' AND o."endedAt" > ${addSeconds(now, -DAY_SECONDS)}`;
  const { security, others } = await countOfMailbox(db, user, sent);
  return security + others;
}

/**
 * How many older emails to the same accounts are being sent now, or due before this one's lease ends. Younger ones do not
 * count: two emails would wait for each other.
 *
 * @param item leased
 */
function countUnderWay(
  db: Db,
  user: Mailbox,
  { id, createdAt, dueAt }: Pick<OutboxItem, 'id' | 'createdAt' | 'dueAt'>,
): Promise<UnderWay> {
  return countOfMailbox(
    db,
    user,
    Prisma.sql`o."status" = 'queued' AND o."dueAt" <= ${dueAt}
      AND (o."createdAt" < ${createdAt} OR o."createdAt" = ${createdAt} AND o."id" < ${id})`,
  );
}

type Mailbox = Pick<User, 'emailHash' | 'emailProvenAt'>;

async function countOfMailbox(
  db: Db,
  { emailHash, emailProvenAt }: Mailbox,
  which: Prisma.Sql,
): Promise<UnderWay> {
  if (emailProvenAt !== null) return { security: 0, others: 0 };
  // CROSS JOIN: SQLite then begins with the accounts. Otherwise it would look through every email ever sent.
  const rows = await db.$queryRaw<{ kind: MailWork['kind']; count: number | bigint }[]>`
    SELECT o."kind", COUNT(*) AS "count" FROM "User" AS u CROSS JOIN "OutboxItem" AS o
    WHERE u."emailHash" = ${emailHash} AND u."emailProvenAt" IS NULL AND o."userId" = u."id"
      AND ${which} AND o."kind" LIKE 'mail.%'
      AND NOT (o."kind" = 'mail.prove-address' AND o."data" = ${TO_A_NEW_ADDRESS})
    GROUP BY o."kind"`;
  const sum = (isSecurity: boolean): number =>
    rows
      .filter(({ kind }) => mayUseReserve(kind) === isSecurity)
      .reduce((all, { count }) => all + Number(count), 0);
  return { security: sum(true), others: sum(false) };
}

/**
 * The state of the plan that the pages show. They show no subscription without a snapshot, so `failedId` covers a first
 * payment whose subscription we have not seen yet.
 *
 * @param failedId the subscription of the payment that failed, if it is known
 */
function planStateOf(
  subscriptions: readonly Subscription[],
  kind: MailWork['kind'],
  failedId: string | null,
): PlanState {
  // Stripe may no longer know the plan. Then the pages say that there is none.
  if (kind !== 'mail.payment-failed' && !anyLiveAndKnown(subscriptions)) return 'ended';
  const current = currentOf(subscriptions);
  if (current && tierOf(current) !== 'free')
    return failedId === null || current.id === failedId ? 'live' : 'another';
  if (subscriptions.some(({ id, status }) => id === failedId && status === null)) return 'not-started';
  switch (current?.status) {
    case 'past_due':
      return 'first-payment-due';
    case 'unpaid':
    case 'paused':
      return current.status;
    case 'incomplete':
    case 'incomplete_expired':
      return 'not-started';
    default:
      return current && isLive(current) ? 'live' : 'ended';
  }
}

/**
 * Whether an email counts towards the daily limit of the account's own address.
 *
 * @param address the recipient that was fixed when the email was queued; null means the account's current address
 */
export function goesToOwnAddress(
  kind: MailWork['kind'],
  address: string | null,
  { email }: Pick<User, 'email'>,
): boolean {
  // The address of an email with a link is fixed when it is queued. If it is the account's own, the email counts too.
  const isLink = kind === 'mail.prove-address' || kind === 'mail.reset-password';
  return address === null || (isLink && address === email);
}

/** Reads what became of the earlier emails to the same user about a referral's days. */
async function readEarlier(
  db: Db,
  { id, kind, userId }: OutboxItem,
  referralId: string,
): Promise<Pick<MailFacts, 'olderDueAt' | 'thinksToHaveDays'>> {
  const mails = await db.outboxItem.findMany({
    where: { userId, kind: { in: [...ABOUT_DAYS] }, data: { contains: referralId } },
    orderBy: [{ createdAt: 'asc' }, { id: 'asc' }],
    select: { id: true, kind: true, status: true, error: true, dueAt: true },
  });
  const older = mails.slice(
    0,
    mails.findIndex((mail) => mail.id === id),
  );
  const queued = older.find(({ status }) => status === 'queued');
  return queued
    ? { olderDueAt: queued.dueAt, thinksToHaveDays: null }
    : { olderDueAt: null, thinksToHaveDays: thinksToHaveDays(kind, older) };
}
