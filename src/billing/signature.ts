import { Stripe } from 'stripe';

/** A signature older than this is refused, s: whoever recorded a webhook cannot send it again next week. */
const TOLERANCE_SECONDS = 300;

/**
 * Whether Stripe signed a webhook. https://docs.stripe.com/webhooks/signature
 *
 * @param body the bytes as they came
 * @param header the Stripe-Signature header
 * @param secrets any of them may have signed it: while a secret is rotated there are two
 * @param now the instant, UTC
 * @returns true when one of the secrets signed it, and not too long ago
 */
export function isSigned(
  body: Buffer,
  header: string | string[] | undefined,
  secrets: readonly string[],
  now: Date,
): boolean {
  if (typeof header !== 'string') return false;
  return secrets.some((secret) => verify(body, header, secret, now));
}

function verify(body: Buffer, header: string, secret: string, now: Date): boolean {
  const { signature } = Stripe.webhooks;
  if (!signature) throw new Error('This build of the stripe package verifies no signatures.');
  try {
    return signature.verifyHeader(body, header, secret, TOLERANCE_SECONDS, undefined, now.getTime());
  } catch (error) {
    if (error instanceof Stripe.errors.StripeSignatureVerificationError) return false;
    throw error;
  }
}
