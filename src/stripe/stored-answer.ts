import { Stripe } from 'stripe';

const NOT_STORED: ReadonlySet<number> = new Set([409, 429, 502, 503, 504]);

/**
 * Whether Stripe may have stored this answer under the request's idempotency key, to repeat it for a day. It has stored
 * nothing if it never answered, is still working (409) or wants fewer requests (429), or if a proxy in front of it
 * answered (502 to 504).
 * https://docs.stripe.com/api/idempotent_requests
 */
export function isStored(error: unknown): boolean {
  if (!(error instanceof Stripe.errors.StripeError)) return false;
  return error.statusCode !== undefined && !NOT_STORED.has(error.statusCode);
}
