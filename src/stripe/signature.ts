import { isUtf8 } from 'node:buffer';

import { Stripe } from 'stripe';

/** Maximum age of a signature, s. Older ones are refused, so that a recorded webhook cannot be replayed. */
const TOLERANCE_SECONDS = 300;

/** Stripe sends one signature for each secret in use. Each costs a comparison. */
const MOST_SIGNATURES = 10;

/** The only forms passed on to the stripe package: on `v1=`, `v1` or `t=NaN` it throws or misreads the header. */
const TIMESTAMP = /^t=\d{1,15}$/;
const SIGNATURE = /^v1=[0-9a-f]{64}$/;

/**
 * Whether Stripe signed a webhook recently. https://docs.stripe.com/webhooks/signature
 *
 * @param header the Stripe-Signature header: `t=…,v1=…`, possibly with other schemes and several signatures
 * @param secrets any of them may have signed it; there are two while a secret is rotated
 * @returns false for anything that cannot be verified
 */
export function isSigned(
  body: Buffer,
  header: string | string[] | undefined,
  secrets: readonly string[],
  now: Date,
): boolean {
  // The package verifies text, which stands for the same bytes only if they are valid UTF-8.
  if (typeof header !== 'string' || !isUtf8(body)) return false;
  const fields = header.split(',').map((field) => field.trim());
  const timestamp = fields.find((field) => TIMESTAMP.test(field));
  const signatures = fields.filter((field) => SIGNATURE.test(field));
  if (timestamp === undefined || signatures.length === 0 || signatures.length > MOST_SIGNATURES) return false;
  const text = body.toString('utf8');
  const clean = [timestamp, ...signatures].join(',');
  return secrets.some((secret) => verify(text, clean, secret, now));
}

function verify(text: string, header: string, secret: string, now: Date): boolean {
  const { signature } = Stripe.webhooks;
  if (!signature) throw new Error('This build of the stripe package cannot verify signatures.');
  try {
    return signature.verifyHeader(text, header, secret, TOLERANCE_SECONDS, undefined, now.getTime());
  } catch (error) {
    if (error instanceof Stripe.errors.StripeSignatureVerificationError) return false;
    throw error;
  }
}
