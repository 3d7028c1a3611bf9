import type { Cause } from '../audit.ts';
import type { Payment } from '../db/generated/client.ts';
import type { Tx } from '../db/transaction.ts';
import { applyFacts } from './apply-facts.ts';
import { lockCustomer } from './facts/customers.ts';
import { lockInvoice } from './facts/invoices.ts';

/**
 * Lets the referral follow what became of a payment's money. A payment whose invoice, subscription or user is not known
 * yet waits: whatever makes the link looks at it again.
 *
 * @param tx the open transaction
 * @param payment the locked payment, whose facts were stored
 * @param cause what brought the fact
 * @param clawbackDays REFERRAL_CLAWBACK_DAYS
 */
export async function reviewPayment(
  tx: Tx,
  payment: Payment,
  cause: Cause,
  clawbackDays: number,
): Promise<void> {
  if (payment.invoiceId === null) return;
  const { subscriptionId } = await lockInvoice(tx, payment.invoiceId);
  if (subscriptionId === null) return;
  const { customerId } = await tx.subscription.findUniqueOrThrow({ where: { id: subscriptionId } });
  const { userId } = await lockCustomer(tx, customerId);
  if (userId) await applyFacts(tx, userId, cause, { onProof: true, clawbackDays });
}
