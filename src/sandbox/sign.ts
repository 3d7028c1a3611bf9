import { createHmac } from 'node:crypto';

/**
 * Signs a webhook as Stripe does, over the time and the exact bytes of the body, and returns the value of the
 * `Stripe-Signature` header. See https://docs.stripe.com/webhooks#verify-manually
 *
 * @param secret the endpoint's whole secret (`whsec_…`)
 * @param timestamp epoch seconds of this delivery
 */
export function signatureHeader(secret: string, timestamp: number, body: string): string {
  const mac = createHmac('sha256', secret).update(`${timestamp}.${body}`).digest('hex');
  return `t=${timestamp},v1=${mac}`;
}
