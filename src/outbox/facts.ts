import { anyLiveAndKnown, isLive } from '../access/live.ts';
import { currentOf } from '../access/overview.ts';
import { subscriptionsOf } from '../access/subscriptions.ts';
import { tierOf } from '../access/tier.ts';
import type { OutboxItem, Referral, Subscription, User } from '../db/generated/client.ts';
import type { Db } from '../db/transaction.ts';
import { ABOUT_DAYS, isDaysMail, thinksToHaveDays } from './days-mail.ts';
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
}

export async function readMailFacts(db: Db, item: OutboxItem, work: MailWork): Promise<MailFacts> {
  const { userId } = item;
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
  const earlier = isDaysMail(work)
    ? await readEarlier(db, item, work.data.referralId)
    : { olderDueAt: null, thinksToHaveDays: null };
  return { user, referral, ...earlier, invoicePaid: invoice?.paidAt != null, plan };
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
