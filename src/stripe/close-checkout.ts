import type { Tx } from '../db/transaction.ts';
import { queueNow } from '../outbox/queue.ts';

/**
 * Forgets a user's open checkout, and has it closed at Stripe after the commit.
 *
 * @param tx must hold the user's lock
 */
export async function closeCheckout(tx: Tx, userId: string): Promise<void> {
  const checkout = await tx.checkout.findUnique({ where: { userId } });
  if (!checkout) return;
  await tx.checkout.delete({ where: { userId } });
  const { sessionId } = checkout;
  if (sessionId !== null)
    await queueNow(tx, [{ kind: 'stripe.expire-checkout', userId, data: { sessionId } }]);
}
