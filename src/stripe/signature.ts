import { isUtf8 } from 'node:buffer';

import { Stripe } from 'stripe';

/** A signature older than this is refused, s: whoever recorded a webhook cannot send it again next week. */
const TOLERANCE_SECONDS = 300;

/** What the package may be shown of a header: on `v1=`, `v1` or `t=NaN` it throws, or takes them for something else. */
const TIMESTAMP = /^t=\d{1,15}$/;
const SIGNATURE = /^v1=[0-9a-f]{64}$/;

/**
 * Whether Stripe signed a webhook. https://docs.stripe.com/webhooks/signature
 *
 * @param body the bytes as they came
 * @param header the Stripe-Signature header: `t=…,v1=…`, with other schemes and several signatures allowed
 * @param secrets any of them may have signed it: while a secret is rotated there are two
 * @param now the instant, UTC
 * @returns true when one of the secrets signed these very bytes, and not too long ago; anything that cannot be verified
 *   is false
 */
export function isSigned(
  body: Buffer,
  header: string | string[] | undefined,
  secrets: readonly string[],
  now: Date,
): boolean {
  // The package verifies text. Text of valid UTF-8 stands for the same bytes again; of anything else it does not.
  if (typeof header !== 'string' || !isUtf8(body)) return false;
  const fields = header.split(',').map((field) => field.trim());
  const timestamp = fields.find((field) => TIMESTAMP.test(field));
  const signatures = fields.filter((field) => SIGNATURE.test(field));
  if (timestamp === undefined || signatures.length === 0) return false;
  const text = body.toString('utf8');
  const clean = [timestamp, ...signatures].join(',');
  return secrets.some((secret) => verify(text, clean, secret, now));
}

function verify(text: string, header: string, secret: string, now: Date): boolean {
  const { signature } = Stripe.webhooks;
  if (!signature) throw new Error('This build of the stripe package verifies no signatures.');
  try {
    return signature.verifyHeader(text, header, secret, TOLERANCE_SECONDS, undefined, now.getTime());
  } catch (error) {
    if (error instanceof Stripe.errors.StripeSignatureVerificationError) return false;
    throw error;
  }
}
