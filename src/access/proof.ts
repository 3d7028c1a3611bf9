import type { Invoice, Prisma, Subscription } from '../db/generated/client.ts';

/** The facts of one subscription that bear on whether money moved. */
export type ProofFacts = Pick<Subscription, 'counted' | 'activeAt' | 'doubtAt' | 'checkoutUnpaid'> & {
  invoices: readonly Pick<Invoice, 'first' | 'positive' | 'paidAt' | 'failedAt'>[];
};

/**
 * Whether the facts prove that a subscription's money moved (design: rule 9). They prove nothing unless the
 * subscription counted at least once: payments for other products are not ours (rule 6).
 *
 * A paid positive invoice is always proof. So is being active, unless it can mean something else: Stripe turns a
 * trial active about an hour before it charges the card, and a 100% coupon or a pending bank debit makes a
 * subscription active without money. See https://docs.stripe.com/billing/subscriptions/overview and
 * https://docs.stripe.com/billing/subscriptions/trials.
 */
export function provesPayment(facts: ProofFacts): boolean {
  if (!facts.counted) return false;
  if (facts.invoices.some((invoice) => invoice.positive)) return true;
  return wasActiveWithoutDoubt(facts) && !facts.checkoutUnpaid && !facts.invoices.some(isUnpaidFirstInvoice);
}

/** A doubt from a later snapshot does not count: a discount given next year does not undo this year's payment. */
function wasActiveWithoutDoubt({ activeAt, doubtAt }: ProofFacts): boolean {
  return activeAt !== null && (doubtAt === null || activeAt < doubtAt);
}

/** A first invoice of zero, or one that could not be collected. */
function isUnpaidFirstInvoice({
  first,
  positive,
  paidAt,
  failedAt,
}: ProofFacts['invoices'][number]): boolean {
  return first && !positive && (paidAt !== null || failedAt !== null);
}

/** Whether somebody has paid for a subscription: a payment is proven, or a positive invoice was paid. */
export function isPaid({ provenAt, firstPaidAt }: Pick<Subscription, 'provenAt' | 'firstPaidAt'>): boolean {
  return provenAt !== null || firstPaidAt !== null;
}

/**
 * Selects the subscriptions whose payment was proven, or one of whose positive invoices was paid, at a time that `since`
 * matches.
 */
export function paidSince(since: Prisma.DateTimeNullableFilter): Prisma.SubscriptionWhereInput {
  return { OR: [{ provenAt: since }, { invoices: { some: { positive: true, paidAt: since } } }] };
}
