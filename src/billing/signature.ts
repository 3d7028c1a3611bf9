import { createHmac, timingSafeEqual } from 'node:crypto';

/** A signature older than this is refused, s: whoever recorded a webhook cannot send it again next week. */
const TOLERANCE_SECONDS = 300;

/** HMAC-SHA-256 in hexadecimal. */
const SIGNATURE = /^[0-9a-f]{64}$/;

/**
 * Whether Stripe signed a webhook. https://docs.stripe.com/webhooks/signature#verify-manually
 *
 * Not the `stripe` package's own check: that one decodes the body first, so that different bytes can pass for the ones
 * that were signed, and it throws on headers that Stripe would not send.
 *
 * @param body the bytes as they came
 * @param header the Stripe-Signature header: `t=…,v1=…`, with other schemes and several signatures allowed
 * @param secrets any of them may have signed it: while a secret is rotated there are two
 * @param now the instant, UTC
 * @returns true when one of the secrets signed it, and not too long ago; anything that cannot be verified is false
 */
export function isSigned(
  body: Buffer,
  header: string | string[] | undefined,
  secrets: readonly string[],
  now: Date,
): boolean {
  if (typeof header !== 'string') return false;
  const fields = header.split(',').map((field) => field.trim());
  const [timestamp = ''] = valuesOf(fields, 't');
  if (!/^\d{1,15}$/.test(timestamp)) return false;
  if (Math.floor(now.getTime() / 1000) - Number(timestamp) > TOLERANCE_SECONDS) return false;
  const signatures = valuesOf(fields, 'v1')
    .filter((value) => SIGNATURE.test(value))
    .map((value) => Buffer.from(value, 'hex'));
  return secrets.some((secret) => {
    const expected = createHmac('sha256', secret).update(`${timestamp}.`).update(body).digest();
    return signatures.some((signature) => timingSafeEqual(signature, expected));
  });
}

function valuesOf(fields: readonly string[], name: string): string[] {
  const start = `${name}=`;
  return fields.filter((field) => field.startsWith(start)).map((field) => field.slice(start.length));
}
