import { Stripe } from 'stripe';

/**
 * Whether Stripe may have stored this answer under the request's idempotency key, to repeat it for a day. It has not if it
 * never answered, or is still working (409). https://docs.stripe.com/api/idempotent_requests
 */
export function isStored(error: unknown): boolean {
  return (
    error instanceof Stripe.errors.StripeError && error.statusCode !== undefined && error.statusCode !== 409
  );
}
