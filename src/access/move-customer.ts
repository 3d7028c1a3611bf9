import { writeAudit } from '../audit.ts';
import type { Cause } from '../audit.ts';
import type { Customer } from '../db/generated/client.ts';
import type { Unit } from '../db/unit-of-work.ts';
import { queue } from '../outbox/queue.ts';
import { NOT_RETIRED } from './customers.ts';
import { follow } from './follow.ts';

/**
 * Moves a customer, with all its facts, to another user, and writes an audit row for each of the two users. Whether a
 * trial under way gives access is decided again for the new owner. The unit of work must hold the locks of the customer
 * and of both users, and `followMove` must run in the same transaction.
 *
 * @param from the user that the customer belongs to; null when it belongs to nobody
 */
export function moveCustomer(
  tx: Unit,
  customer: Customer,
  from: string | null,
  to: string,
  cause: Cause,
): void {
  const { rows, now } = tx;
  rows.customers.set(customer.id, {
    ...customer,
    userId: to,
    linkedAt: now,
    ours: true,
    ...NOT_RETIRED,
  });
  for (const one of rows.subscriptions.values()) {
    if (one.customerId !== customer.id) continue;
    const trialRefused = one.trialRefused && one.status !== 'trialing';
    rows.subscriptions.set(one.id, { ...one, trialHash: null, trialRefused, trialReleased: false });
  }
  const moved = { customerId: customer.id };
  if (from !== null) writeAudit(tx, cause, { ...moved, userId: from, kind: 'unlink', otherUserId: to });
  writeAudit(tx, cause, { ...moved, userId: to, kind: 'link', otherUserId: from });
  // Stripe's mail about their payments goes to the customer's address.
  if (!customer.deletedAt) queue(tx, { kind: 'stripe.customer-address', userId: to, data: moved });
}

/**
 * Applies the consequences of a move to both users. It needs a unit of work of its own, loaded after the move was
 * written: it may ask the database who had a trial, and the answer depends on the new owner.
 */
export function followMove(tx: Unit, from: string | null, to: string, cause: Cause): void {
  if (from !== null) follow(tx, from, cause, true, { lostCustomer: true });
  follow(tx, to, cause, true);
}
