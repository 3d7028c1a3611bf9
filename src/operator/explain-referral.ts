import { firstPaymentOf } from '../access/first-payment.ts';
import { hasGoneBack, holds, whyGone } from '../access/money-back.ts';
import type { Prisma } from '../db/generated/client.ts';
import { addSeconds, DAY_SECONDS, isoText } from '../instants.ts';
import type { ReversalReason } from '../outbox/kinds.ts';
import { counted } from '../wording.ts';

/** Everything that decides what a referral is now. */
export const REFERRAL_FACTS = {
  referrer: true,
  creditEntries: { where: { kind: 'grant' } },
  referred: {
    include: {
      auditRows: { where: { kind: 'unlink' } },
      customers: {
        include: {
          subscriptions: {
            include: { invoices: { include: { payments: { include: { disputes: true } } } } },
          },
        },
      },
    },
  },
} satisfies Prisma.ReferralInclude;

export type ReferralFacts = Prisma.ReferralGetPayload<{ include: typeof REFERRAL_FACTS }>;

type Subscription = ReferralFacts['referred']['customers'][number]['subscriptions'][number];

/** What a referral is now and what can happen next, for an operator. */
export interface ReferralStory {
  state:
    | 'signed-up'
    | 'trial'
    | 'unproven'
    | 'payment-failed'
    | 'past-due'
    | 'stopped'
    | 'ended'
    | 'proven'
    | 'converted'
    | 'reversed'
    | 'refused'
    | 'deleted';
  says: string;
  next: string;
}

const ON_FIRST_INVOICE = 'It converts with the first paid invoice.';
const ON_NEW_SUBSCRIPTION = 'It converts with the first paid invoice of a new subscription.';
const ON_REFUSAL =
  'The first payment will not convert it: an address of theirs belongs to the referrer or has already converted a referral.';
const NEVER = 'It never converts.';
const AN_ERROR = 'This should not happen: run `doctor`.';
const UNLESS_CHANGED = 'Unless REFERRAL_CLAWBACK_DAYS was changed, this should not happen: run `doctor`.';

/** Of several subscriptions, the one nearest to a payment comes first. */
const NEAREST_FIRST = ['active', 'trialing', 'past_due', 'incomplete', 'unpaid', 'paused'];

/** @param wouldBeRefused `WOULD_BE_REFUSED`, for this referral */
export function explainReferral(
  referral: ReferralFacts,
  wouldBeRefused: boolean,
  clawbackDays: number,
  now: Date,
): ReferralStory {
  const { convertedAt, refusedFor, referred, referrer } = referral;
  if (convertedAt) return explainConverted(referral, convertedAt, clawbackDays, now);
  if (refusedFor === 'own-address')
    return story('refused', 'refused: the address belongs to the referrer', NEVER);
  if (refusedFor) return story('refused', 'refused: the address has already converted a referral', NEVER);
  if (referred.deletedAt) return story('deleted', 'the account was deleted before a payment', NEVER);

  const subscriptions = subscriptionsOf(referral);
  const open = subscriptions.some(({ provenAt }) => provenAt !== null)
    ? story('proven', 'a payment is proven, but the referral is not converted', AN_ERROR)
    : beforePayment(subscriptions);
  if (wouldBeRefused) return { ...open, next: ON_REFUSAL };
  if (referrer?.deletedAt === null) return open;
  return { ...open, next: `${open.next} The referrer has deleted their account and gets nothing.` };
}

/** Why no subscription holds; null while one does. */
export function reversalReason(referral: ReferralFacts, clawbackDays: number): ReversalReason | null {
  const subscriptions = subscriptionsOf(referral);
  if (subscriptions.some((subscription) => holds(subscription, clawbackDays))) return null;
  const isProven = subscriptions.some(({ provenAt }) => provenAt !== null);
  if (!isProven && referral.referred.auditRows.length > 0) return 'moved';
  return whyGone(
    subscriptions.flatMap(({ invoices }) => invoices),
    clawbackDays,
  );
}

function story(state: ReferralStory['state'], says: string, next: string): ReferralStory {
  return { state, says, next };
}

function subscriptionsOf({ referred }: ReferralFacts): Subscription[] {
  return referred.customers.flatMap(({ subscriptions }) => subscriptions);
}

function explainConverted(
  referral: ReferralFacts,
  convertedAt: Date,
  clawbackDays: number,
  now: Date,
): ReferralStory {
  const whom =
    referral.creditEntries.length > 1
      ? 'each'
      : 'for the invited user; the referrer had deleted their account';
  // From the ledger: REFERRAL_CREDIT_DAYS may have been different then.
  const days = (referral.creditEntries[0]?.seconds ?? 0) / DAY_SECONDS;
  const converted = `converted on ${isoText(convertedAt)}: ${counted(days, 'day')} ${whom}`;
  if (!referral.reversedAt) return story('converted', converted, whatUndoesIt(referral, clawbackDays, now));

  const reversed = `${converted}; taken back on ${isoText(referral.reversedAt)}`;
  switch (reversalReason(referral, clawbackDays)) {
    case 'refund':
      return story(
        'reversed',
        `${reversed} because the payment was refunded`,
        'The days are returned if the refund fails or they pay again.',
      );
    case 'dispute':
      return story(
        'reversed',
        `${reversed} because the dispute was lost`,
        'The days are returned if the dispute is won or they pay again.',
      );
    case 'unpaid':
      return story(
        'reversed',
        `${reversed} because no payment was ever collected`,
        'The days are returned with the first paid invoice.',
      );
    case 'moved':
      return story(
        'reversed',
        `${reversed} because the payment belongs to another account`,
        'The days are returned once they make a payment of their own.',
      );
    case null:
      return story('reversed', `${reversed}, although a payment still stands`, UNLESS_CHANGED);
  }
}

function whatUndoesIt(referral: ReferralFacts, clawbackDays: number, now: Date): string {
  if (clawbackDays === 0)
    return 'REFERRAL_CLAWBACK_DAYS is 0, so later refunds and disputes take nothing back.';
  // The days go once every payment has gone back. So the earliest one that still stands sets the deadline.
  const remaining = subscriptionsOf(referral).map(({ provenAt, invoices }) => ({
    invoices: provenAt ? invoices.filter((invoice) => !hasGoneBack(invoice, clawbackDays)) : [],
  }));
  const first = firstPaymentOf(remaining);
  if (!first)
    return `A full refund of their first payment within ${counted(clawbackDays, 'day')}, or the loss of a dispute opened by then, can take the days back.`;
  const clawbackUntil = addSeconds(first.paidAt, clawbackDays * DAY_SECONDS);
  const until = isoText(clawbackUntil);
  const paid = remaining.flatMap(({ invoices }) => invoices.filter(({ positive }) => positive));
  const unless = paid.length > 1 ? ', but only if their later payments go back as well' : '';
  return clawbackUntil >= now
    ? `A full refund by ${until}, or the loss of a dispute opened by then, can take the days back${unless}.`
    : `Only the loss of a dispute opened by ${until}, or a full refund made by then that Stripe has not reported yet, can still take the days back${unless}.`;
}

function beforePayment(subscriptions: readonly Subscription[]): ReferralStory {
  const [nearest] = subscriptions
    .filter(({ status, counts }) => counts && status !== null)
    .sort((a, b) => rank(a.status) - rank(b.status));
  switch (nearest?.status) {
    case undefined:
    case null:
      return story(
        'signed-up',
        'no subscription yet',
        'It converts when they subscribe and their first payment is proven.',
      );
    case 'trialing': {
      const end = nearest.trialEnd ? isoText(nearest.trialEnd) : 'its end';
      return story('trial', `on trial until ${end}, no payment yet`, ON_FIRST_INVOICE);
    }
    case 'active':
      return story(
        'unproven',
        `active, but no payment is proven (${whyUnproven(nearest)})`,
        ON_FIRST_INVOICE,
      );
    case 'past_due':
      return story(
        'past-due',
        'the subscription is past due, and nothing has been paid yet',
        ON_FIRST_INVOICE,
      );
    case 'incomplete':
      return story('payment-failed', 'the first payment has not gone through', ON_FIRST_INVOICE);
    case 'incomplete_expired':
      return story(
        'payment-failed',
        'the first payment did not go through and the subscription expired',
        ON_NEW_SUBSCRIPTION,
      );
    case 'canceled':
      return story('ended', 'the subscription ended without a payment', ON_NEW_SUBSCRIPTION);
    default:
      return story(
        'stopped',
        `the subscription has the status ${nearest?.status ?? ''}, and nothing has been paid yet`,
        ON_FIRST_INVOICE,
      );
  }
}

function whyUnproven({ checkoutUnpaid, invoices }: Subscription): string {
  if (invoices.some(({ first, paidAt }) => first && paidAt !== null)) return 'its first invoice was zero';
  if (invoices.some(({ first, failedAt }) => first && failedAt !== null)) return 'its first payment failed';
  if (checkoutUnpaid) return 'a bank debit is pending';
  return 'it had a trial, a discount or a price of zero, or its invoices are emailed instead of charged';
}

function rank(status: string | null): number {
  const place = NEAREST_FIRST.indexOf(status ?? '');
  return place === -1 ? NEAREST_FIRST.length : place;
}
