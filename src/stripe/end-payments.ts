import { Stripe } from 'stripe';

import { isLive } from '../access/live.ts';
import { absenceOf, unlessGone } from './missing.ts';
import { idOf } from './objects/common.ts';
import { readSubscription } from './objects/subscription-shape.ts';
import type { Products } from './objects/subscription-shape.ts';

/**
 * Expires a checkout session. Does nothing if it is over or unknown to Stripe.
 *
 * @returns false when Stripe refuses although the session is open: a payment in it may be under way
 * @throws StripeError when Stripe cannot be reached, or the session exists only in the other mode
 */
export async function expire(
  stripe: Stripe,
  sessionId: string,
  options: Stripe.RequestOptions = {},
): Promise<boolean> {
  try {
    await stripe.checkout.sessions.expire(sessionId, {}, options);
    return true;
  } catch (error) {
    const absence = absenceOf(error);
    if (absence === 'gone') return true;
    if (!(error instanceof Stripe.errors.StripeInvalidRequestError) || absence === 'other-mode') throw error;
    // Stripe refuses when the session is over.
    return (await stripe.checkout.sessions.retrieve(sessionId, {}, options)).status !== 'open';
  }
}

/**
 * `ended`: nothing is left to end, apart from what `isKept` spares. `live`: a subscription is live, or has just been
 * paid. `pending`: the bank is about to approve or refuse a payment, so its invoice cannot be voided yet.
 */
export type Unfinished = 'ended' | 'live' | 'pending';

/**
 * Ends a customer's subscriptions whose first payment awaits the bank's approval, so that it cannot be approved later.
 *
 * @param isKept whether to leave an unfinished subscription alone
 * @throws StripeError when Stripe refuses or cannot be reached
 */
export async function endUnfinished(
  stripe: Stripe,
  customer: string,
  products: Products,
  isKept: (subscription: Stripe.Subscription) => Promise<boolean> = () => Promise.resolve(false),
): Promise<Unfinished> {
  const listed = await unlessGone(() => stripe.subscriptions.list({ customer, limit: 100 }));
  const outcomes: Unfinished[] = [];
  for (const subscription of listed?.data ?? []) {
    const { state } = readSubscription(subscription, products);
    if (isLive(state)) outcomes.push('live');
    if (state.counts && state.status === 'incomplete' && !(await isKept(subscription)))
      outcomes.push(await endFirstPayment(stripe, subscription));
  }
  return outcomes.find((one) => one === 'pending') ?? outcomes.find((one) => one === 'live') ?? 'ended';
}

/** Ends a subscription whose first payment awaits the bank's approval. */
export async function endFirstPayment(
  stripe: Stripe,
  { id, latest_invoice: invoice }: Stripe.Subscription,
  options: Stripe.RequestOptions = {},
): Promise<Unfinished> {
  const outcome = await voidFirstInvoice(stripe, idOf(invoice), options);
  if (outcome === 'ended') await unlessGone(() => stripe.subscriptions.cancel(id, {}, options));
  return outcome;
}

/**
 * Voids a first invoice. Stripe refuses to void a paid invoice, but would cancel a paid subscription.
 * https://docs.stripe.com/api/invoices/void
 *
 * @returns `ended` when nothing is left but to cancel its subscription
 */
export async function voidFirstInvoice(
  stripe: Stripe,
  id: string | null,
  options: Stripe.RequestOptions = {},
): Promise<Unfinished> {
  if (id === null) return 'ended';
  try {
    await stripe.invoices.voidInvoice(id, {}, options);
    return 'ended';
  } catch (error) {
    // A restricted key may lack the right to void invoices. Then cancelling the subscription is all that can be done.
    const mayNotVoid = error instanceof Stripe.errors.StripePermissionError;
    if (!mayNotVoid && !(error instanceof Stripe.errors.StripeInvalidRequestError)) throw error;
    const { status } = await stripe.invoices.retrieve(id, {}, options);
    if (status === 'paid') return 'live';
    return status === 'open' && !mayNotVoid ? 'pending' : 'ended';
  }
}
