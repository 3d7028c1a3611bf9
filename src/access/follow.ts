import type { Cause } from '../audit.ts';
import type { Payment } from '../db/generated/client.ts';
import type { Unit } from '../db/unit-of-work.ts';
import { reviewReferral } from '../referrals/review.ts';
import { setTier } from './grant-paid.ts';
import { anyHolds, whyNoneHolds } from './money-back.ts';
import { turnedAt } from './paid-time.ts';
import { subscriptionsOfUser } from './subscriptions.ts';
import { deriveTier } from './tier.ts';
import { admitTrials } from './trials.ts';

/**
 * Makes the user's tier follow from the facts (`setTier`, which also holds or resumes credit) and then, if a new fact
 * bears on payment or refunds, their referral (`reviewReferral`, which converts, reverses or restores it). Handlers of
 * Stripe objects, `reconcile` and `relink` call it after they have stored new facts. The unit of work must hold the
 * locks of the user and the referrer.
 *
 * @param bearsOnMoney whether a new fact bears on payments or refunds. When only the tier can have changed it is false, and
 *   the referral is left alone
 * @param lostCustomer whether one of the user's customers was just moved to another user. Then the tier that it gave ends
 *   now, and the move is the reason if the referral is reversed
 */
export function follow(
  tx: Unit,
  userId: string,
  cause: Cause,
  bearsOnMoney: boolean,
  { lostCustomer = false } = {},
): void {
  const user = tx.rows.users.get(userId);
  if (!user) return;
  const subscriptions = admitTrials(tx, user, subscriptionsOfUser(tx, userId));
  const tier = deriveTier(subscriptions);
  const at = (lostCustomer ? null : turnedAt(subscriptions, tier)) ?? tx.now;
  const current = setTier(tx, user, tier, { ...cause, at });
  if (!bearsOnMoney) return;
  const proven = subscriptions.some(({ provenAt }) => provenAt !== null);
  const lost = anyHolds(tx, subscriptions) ? null : lostCustomer ? 'moved' : whyNoneHolds(tx, subscriptions);
  reviewReferral(tx, current, { proven, lost }, cause);
}

/** A renewal changes nothing, unless the user's conversion is reversed: the new money can restore it. */
export function followRenewal(tx: Unit, userId: string, cause: Cause): void {
  if (tx.rows.referrals.get(userId)?.reversedAt) follow(tx, userId, cause, true);
}

/**
 * Reviews the referral after a payment was refunded or disputed. If the payment's invoice, subscription or user is
 * unknown, it is reviewed later by whatever provides the link.
 */
export function followMoney(tx: Unit, { invoiceId }: Payment, cause: Cause): void {
  const { invoices, subscriptions, customers } = tx.rows;
  const subscription = subscriptions.get(invoices.get(invoiceId ?? '')?.subscriptionId ?? '');
  if (!subscription) return;
  subscriptions.set(subscription.id, { ...subscription, moneyBack: true });
  const userId = customers.get(subscription.customerId)?.userId ?? null;
  if (userId !== null) follow(tx, userId, cause, true);
}
