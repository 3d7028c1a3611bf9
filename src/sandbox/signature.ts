import { createHmac } from 'node:crypto';

/**
 * Signs a webhook as Stripe does: the time and the exact bytes of the body, so that neither can be changed.
 * See https://docs.stripe.com/webhooks#verify-manually
 *
 * @param secret the endpoint's secret (`whsec_…`), used whole
 * @param timestamp epoch seconds of this delivery
 * @param body the request body, byte for byte as it is sent
 * @returns the value of the `Stripe-Signature` header
 */
export function signatureHeader(secret: string, timestamp: number, body: string): string {
  const mac = createHmac('sha256', secret).update(`${timestamp}.${body}`).digest('hex');
  return `t=${timestamp},v1=${mac}`;
}
