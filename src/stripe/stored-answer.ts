import { Stripe } from 'stripe';

/**
 * Whether Stripe may have stored this answer under the request's idempotency key, to repeat it for a day. It has not if it
 * never answered, is still working (409), or wants fewer requests (429). https://docs.stripe.com/api/idempotent_requests
 */
export function isStored(error: unknown): boolean {
  if (!(error instanceof Stripe.errors.StripeError)) return false;
  return error.statusCode !== undefined && ![409, 429].includes(error.statusCode);
}
