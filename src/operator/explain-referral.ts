import type { Subscription } from '../db/generated/client.ts';
import { isoText } from '../instants.ts';

/** Why a conversion is taken back: the money went back in full, or no money had moved. */
export type ReversalReason = 'refunded' | 'dispute-lost' | 'unproven';

/** What a subscription of a referred user shows of itself. */
export type SubscriptionFacts = Pick<Subscription, 'status' | 'counts' | 'trialEnd' | 'checkoutUnpaid'> & {
  invoices: readonly { first: boolean; paidAt: Date | null; failedAt: Date | null }[];
};

/** Everything that decides what a referral is now. */
export interface ReferralFacts {
  convertedAt: Date | null;
  reversedAt: Date | null;
  /** Why it did not convert when a payment was proven. */
  refusedFor: string | null;
  /** The referred user deleted their account. */
  deleted: boolean;
  /** The referrer is there to be credited. */
  referrerThere: boolean;
  /** How many sides the conversion granted to. */
  sidesCredited: number;
  subscriptions: readonly SubscriptionFacts[];
  /** A payment is proven. */
  proven: boolean;
  /** Why no payment holds; null while one does, or none was made. */
  reversal: ReversalReason | null;
  /** Until when a refund, or the opening of a dispute, can take the conversion back; null when no paid invoice is known. */
  clawbackUntil: Date | null;
}

export type ReferralState =
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

/** What a referral is now, and what comes next, in words for an operator. */
export interface ReferralStory {
  state: ReferralState;
  says: string;
  next: string;
}

const ON_FIRST_INVOICE = 'It converts with the first paid invoice.';
const ON_NEW_SUBSCRIPTION = 'It converts with the first paid invoice of a new subscription.';

/** The one of several subscriptions that is nearest to a payment comes first. */
const NEAREST_FIRST = ['active', 'trialing', 'past_due', 'incomplete', 'unpaid', 'paused'];

/**
 * @param facts all that decides it
 * @param days what a conversion grants to each side, days
 * @param now the instant, UTC
 * @returns what the referral is now and what comes next
 */
export function explainReferral(facts: ReferralFacts, days: number, now: Date): ReferralStory {
  const { convertedAt, reversedAt } = facts;
  if (convertedAt) {
    const each = facts.sidesCredited > 1 ? 'each' : 'for the one invited; whoever invited them was gone';
    const converted = `converted on ${isoText(convertedAt)}: ${days} days ${each}`;
    return reversedAt
      ? { state: 'reversed', ...reversed(facts, `${converted}; taken back on ${isoText(reversedAt)}`) }
      : { state: 'converted', says: converted, next: whatUndoesIt(facts, now) };
  }
  if (facts.refusedFor) {
    const why =
      facts.refusedFor === 'own-address'
        ? 'the address is one of the person who invited them'
        : 'the address has converted a referral before';
    return { state: 'refused', says: `refused: ${why}`, next: 'It never converts.' };
  }
  if (facts.deleted) {
    return {
      state: 'deleted',
      says: 'the account was deleted before a payment',
      next: 'It never converts.',
    };
  }
  const story = facts.proven
    ? {
        state: 'proven' as const,
        says: 'a payment is proven, yet it did not convert',
        next: 'This must not be: `doctor` names it.',
      }
    : beforePayment(facts.subscriptions);
  return facts.referrerThere
    ? story
    : { ...story, next: `${story.next} Whoever invited them is gone, and gets nothing.` };
}

function reversed({ reversal }: ReferralFacts, when: string): Omit<ReferralStory, 'state'> {
  switch (reversal) {
    case 'refunded':
      return {
        says: `${when} because the payment was refunded`,
        next: 'The same is given back if the refund fails, or if they pay again.',
      };
    case 'dispute-lost':
      return {
        says: `${when} because the dispute was lost`,
        next: 'The same is given back if the dispute is won after all, or if they pay again.',
      };
    case 'unproven':
      return {
        says: `${when} because no money had moved`,
        next: 'The same is given back with the first paid invoice.',
      };
    case null:
      return { says: when, next: 'A payment holds, and it should not be taken back: `doctor` names it.' };
  }
}

function whatUndoesIt({ clawbackUntil }: ReferralFacts, now: Date): string {
  if (!clawbackUntil) return 'A full refund, or a lost dispute, of their first payment takes it back.';
  const until = isoText(clawbackUntil);
  return clawbackUntil >= now
    ? `A full refund, or a dispute opened, until ${until} can take it back.`
    : `Nothing more: only a dispute opened until ${until}, and lost later, can take it back.`;
}

function beforePayment(subscriptions: readonly SubscriptionFacts[]): ReferralStory {
  const [nearest] = subscriptions
    .filter(({ status, counts }) => counts && status !== null)
    .sort((a, b) => rank(a.status) - rank(b.status));
  switch (nearest?.status) {
    case undefined:
    case null:
      return {
        state: 'signed-up',
        says: 'signed up, no subscription yet',
        next: 'It converts when they subscribe and their first payment is proven.',
      };
    case 'trialing':
      return {
        state: 'trial',
        says: `on trial until ${nearest.trialEnd ? isoText(nearest.trialEnd) : 'its end'}, no payment yet`,
        next: ON_FIRST_INVOICE,
      };
    case 'active':
      return {
        state: 'unproven',
        says: `paying, but nothing proves that money moved (${whyUnproven(nearest)})`,
        next: ON_FIRST_INVOICE,
      };
    case 'past_due':
      return { state: 'past-due', says: 'past due, never paid', next: ON_FIRST_INVOICE };
    case 'incomplete':
      return { state: 'payment-failed', says: 'the first payment failed', next: ON_FIRST_INVOICE };
    case 'incomplete_expired':
      return {
        state: 'payment-failed',
        says: 'the first payment failed, and was given up',
        next: ON_NEW_SUBSCRIPTION,
      };
    case 'canceled':
      return {
        state: 'ended',
        says: 'the subscription ended without a payment',
        next: ON_NEW_SUBSCRIPTION,
      };
    default:
      return { state: 'stopped', says: `${nearest?.status ?? ''}, never paid`, next: ON_FIRST_INVOICE };
  }
}

function whyUnproven({ checkoutUnpaid, invoices }: SubscriptionFacts): string {
  if (invoices.some(({ first, paidAt }) => first && paidAt !== null)) return 'its first invoice was of zero';
  if (invoices.some(({ first, failedAt }) => first && failedAt !== null)) return 'its first payment failed';
  if (checkoutUnpaid) return 'a bank debit is under way';
  return 'it was on trial, or has a coupon, a price of zero or an invoice that is sent';
}

function rank(status: string | null): number {
  const place = NEAREST_FIRST.indexOf(status ?? '');
  return place === -1 ? NEAREST_FIRST.length : place;
}
