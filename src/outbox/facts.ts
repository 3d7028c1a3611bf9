import { anyLiveAndKnown, isLive } from '../access/live.ts';
import { currentOf } from '../access/overview.ts';
import { subscriptionsOf } from '../access/subscriptions.ts';
import { tierOf } from '../access/tier.ts';
import type { OutboxItem, Referral, Subscription, User } from '../db/generated/client.ts';
import type { Db } from '../db/transaction.ts';
import { addSeconds, DAY_SECONDS } from '../instants.ts';
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

/** Why an email about days is dropped after their reversal. */
export const DAYS_TAKEN_BACK = 'The days were taken back.';

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
   * Whether the email about the grant is still queued, or was dropped because the days were taken back, and none about
   * a restoration was sent. Read only for `mail.days-reversed`, otherwise false.
   */
  grantNeverAnnounced: boolean;
  /** Whether the invoice that the email is about has been paid. */
  invoicePaid: boolean;
  /** The state of the account's plan. Read only for mail that depends on it (`ABOUT_A_PLAN`), otherwise `ended`. */
  plan: PlanState;
  /**
   * Emails sent within the last day to all unproven accounts with this address or another +tag of it; 0 if this
   * account's address is proven.
   */
  sentToday: number;
}

export async function readMailFacts(
  db: Db,
  { userId }: OutboxItem,
  work: MailWork,
  now: Date,
): Promise<MailFacts> {
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
  const sentToday = user && user.deletedAt === null ? await countSentToday(db, user, now) : 0;
  const grantNeverAnnounced =
    work.kind === 'mail.days-reversed' && (await neverAnnounced(db, userId, work.data.referralId));
  return { user, referral, grantNeverAnnounced, invoicePaid: invoice?.paidAt != null, plan, sentToday };
}

/**
 * How many emails went to the unproven accounts of a mailbox within the last day; 0 when the account's own address is
 * proven.
 */
export async function countSentToday(
  db: Db,
  { emailHash, emailProvenAt }: Pick<User, 'emailHash' | 'emailProvenAt'>,
  now: Date,
): Promise<number> {
  if (emailProvenAt !== null) return 0;
  const since = addSeconds(now, -DAY_SECONDS);
  // CROSS JOIN: SQLite then begins with the accounts. Otherwise it would look through every email ever sent.
  const [row] = await db.$queryRaw<[{ count: number | bigint }]>`
    SELECT COUNT(*) AS "count" FROM "User" AS u CROSS JOIN "OutboxItem" AS o
    WHERE u."emailHash" = ${emailHash} AND u."emailProvenAt" IS NULL AND o."userId" = u."id"
      AND o."status" = 'done' AND o."endedAt" > ${since} AND o."kind" LIKE 'mail.%'
      AND NOT (o."kind" = 'mail.prove-address' AND o."data" = ${TO_A_NEW_ADDRESS})`;
  return Number(row.count);
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
 * Whether the user has had no email about a conversion's days: the one about the grant is still queued or was dropped
 * after their reversal, and none about a restoration was sent.
 */
async function neverAnnounced(db: Db, userId: string | null, referralId: string): Promise<boolean> {
  const about = { userId, data: { contains: referralId } };
  const untold = await db.outboxItem.findFirst({
    where: {
      ...about,
      kind: 'mail.days-granted',
      OR: [{ status: 'queued' }, { status: 'dropped', error: DAYS_TAKEN_BACK }],
    },
    select: { id: true },
  });
  if (!untold) return false;
  const restored = { ...about, kind: 'mail.days-restored', status: 'done' };
  return (await db.outboxItem.findFirst({ where: restored, select: { id: true } })) === null;
}
