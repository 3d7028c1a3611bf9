import { expireCheckout } from './billing.ts';
import type { Context } from './context.ts';
import type { Cause } from './events.ts';
import type { CheckoutSession } from './types.ts';

/**
 * Expires a checkout whose time is over. Nothing watches the clock: whoever looks at a session calls this first.
 *
 * @param context what to change
 * @param session any session
 * @param cause when, and who looks
 * @returns resolves when the webhook was told, if there was something to tell
 */
export async function expireIfDue(context: Context, session: CheckoutSession, cause: Cause): Promise<void> {
  if (session.status === 'open' && cause.at >= session.expires_at) {
    await context.publish(expireCheckout(session, cause));
  }
}
