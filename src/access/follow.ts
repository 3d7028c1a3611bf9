import type { Cause } from '../audit.ts';
import { turnedAt } from './paid-time.ts';
import { setTier } from './grant-paid.ts';
import { anyHolds } from './money-back.ts';
import { deriveTier } from './tier.ts';
import { admitTrials } from './trials.ts';
import { subscriptionsOfUser } from './subscriptions.ts';
import type { Payment } from '../db/generated/client.ts';
import type { Unit } from '../db/unit-of-work.ts';
import { reviewReferral } from '../referrals/reverse.ts';

/**
 * From facts to access: makes a user's tier what the facts say, and lets the referral follow when a new fact bears on
 * the proof of payment, or on whether its money went back. Everything that brings facts ends here.
 *
 * @param tx the unit of work, which holds the locks of the user and of the referrer
 * @param userId whose facts
 * @param cause what brought the new facts
 * @param onProof one of them bears on the proof: a renewal does not, and costs no look at the referral
 */
export function follow(tx: Unit, userId: string, cause: Cause, onProof: boolean): void {
  const user = tx.rows.users.get(userId);
  if (!user) return;
  const subscriptions = admitTrials(tx, user, subscriptionsOfUser(tx, userId));
  const tier = deriveTier(subscriptions);
  const current = setTier(tx, user, tier, { ...cause, at: turnedAt(subscriptions, tier) ?? tx.now });
  if (!onProof) return;
  const proven = subscriptions.some(({ provenAt }) => provenAt !== null);
  reviewReferral(tx, current, { proven, holds: anyHolds(tx, subscriptions) }, cause);
}

/**
 * What a renewal changes: nothing, unless the user's conversion stands reversed. Money that came anew can restore it.
 *
 * @param tx the unit of work, which holds the locks of the user and of the referrer
 * @param userId who paid
 * @param cause what brought the renewal
 */
export function followRenewal(tx: Unit, userId: string, cause: Cause): void {
  if (tx.rows.referrals.get(userId)?.reversedAt) follow(tx, userId, cause, true);
}

/**
 * Lets the referral follow what became of a payment's money. A payment whose invoice, subscription or user is not known
 * yet waits: whatever makes the link looks at it again.
 *
 * @param tx the unit of work
 * @param payment the payment, whose facts were stored
 * @param cause what brought the fact
 */
export function followMoney(tx: Unit, { invoiceId }: Payment, cause: Cause): void {
  const { invoices, subscriptions, customers } = tx.rows;
  const subscription = subscriptions.get(invoices.get(invoiceId ?? '')?.subscriptionId ?? '');
  if (!subscription) return;
  subscriptions.set(subscription.id, { ...subscription, moneyBack: true });
  const userId = customers.get(subscription.customerId)?.userId ?? null;
  if (userId !== null) follow(tx, userId, cause, true);
}
