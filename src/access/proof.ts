import type { Invoice, Subscription } from '../db/generated/client.ts';

/** The facts of one subscription that bear on whether money moved. */
export type ProofFacts = Pick<Subscription, 'counted' | 'activeAt' | 'doubtAt' | 'checkoutUnpaid'> & {
  invoices: readonly Pick<Invoice, 'first' | 'positive' | 'paidAt' | 'failedAt'>[];
};

/**
 * Whether the facts of a subscription prove that its money moved (design: rule 9). Only one that counted once proves
 * anything: money for another product is none of ours (rule 6).
 *
 * A positive invoice that was paid always does. Being active does too, unless it need not mean that: Stripe turns a
 * trial active about an hour before it charges the card, and a coupon of 100 % or a bank debit under way make a
 * subscription active without money.
 * See https://docs.stripe.com/billing/subscriptions/overview and https://docs.stripe.com/billing/subscriptions/trials.
 *
 * @param facts the subscription's facts, in whatever order they were heard
 * @returns true when they prove a payment
 */
export function provesPayment(facts: ProofFacts): boolean {
  if (!facts.counted) return false;
  if (facts.invoices.some((invoice) => invoice.positive)) return true;
  return wasActiveWithoutDoubt(facts) && !facts.checkoutUnpaid && !facts.invoices.some(isUnpaidFirstInvoice);
}

/** The doubt of a later snapshot does not count: a discount given next year does not undo this year's payment. */
function wasActiveWithoutDoubt({ activeAt, doubtAt }: ProofFacts): boolean {
  return activeAt !== null && (doubtAt === null || activeAt < doubtAt);
}

/** It was of zero, or a try to collect it failed. */
function isUnpaidFirstInvoice({
  first,
  positive,
  paidAt,
  failedAt,
}: ProofFacts['invoices'][number]): boolean {
  return first && !positive && (paidAt !== null || failedAt !== null);
}
