import { follow } from './follow.ts';
import type { Cause } from '../audit.ts';
import type { Payment } from '../db/generated/client.ts';
import type { Unit } from '../db/unit-of-work.ts';

/**
 * Lets the referral follow what became of a payment's money. A payment whose invoice, subscription or user is not known
 * yet waits: whatever makes the link looks at it again.
 *
 * @param tx the unit of work
 * @param payment the payment, whose facts were stored
 * @param cause what brought the fact
 */
export function reviewPayment(tx: Unit, { invoiceId }: Payment, cause: Cause): void {
  const { invoices, subscriptions, customers } = tx.rows;
  const subscription = subscriptions.get(invoices.get(invoiceId ?? '')?.subscriptionId ?? '');
  if (!subscription) return;
  subscriptions.set(subscription.id, { ...subscription, moneyBack: true });
  const userId = customers.get(subscription.customerId)?.userId ?? null;
  if (userId !== null) follow(tx, userId, cause, true);
}
