import type { Checkout } from '../db/generated/client.ts';
import type { Tx } from '../db/transaction.ts';
import { queueNow } from '../outbox/queue.ts';

/**
 * Forgets a user's open checkout, and has it closed at Stripe after the commit.
 *
 * @param tx must hold the user's lock
 * @returns the id of its session at Stripe; null when there is none
 */
export async function closeCheckout(tx: Tx, userId: string): Promise<string | null> {
  const checkout = await tx.checkout.findUnique({ where: { userId } });
  if (!checkout) return null;
  await tx.checkout.delete({ where: { userId } });
  await queueExpiry(tx, checkout);
  return checkout.sessionId;
}

/**
 * Queues the expiry of a checkout's session at Stripe, which happens after the commit. A session paid by then stays
 * paid.
 */
export async function queueExpiry(tx: Tx, { userId, sessionId }: Checkout): Promise<void> {
  if (sessionId !== null)
    await queueNow(tx, [{ kind: 'stripe.expire-checkout', userId, data: { sessionId } }]);
}
