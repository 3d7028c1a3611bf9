import { Stripe } from 'stripe';

import type { StripeConfig } from './config.ts';

/**
 * @param config the key, and where Stripe's API is when that is not Stripe
 * @returns the client, or null when no key is configured
 */
export function createStripe({ apiKey, apiBase }: StripeConfig): Stripe | null {
  if (apiKey === null) return null;
  if (apiBase === null) return new Stripe(apiKey, { telemetry: false });
  const { protocol, hostname, port } = new URL(apiBase);
  return new Stripe(apiKey, {
    telemetry: false,
    protocol: protocol === 'https:' ? 'https' : 'http',
    host: hostname,
    ...(port !== '' && { port: Number(port) }),
  });
}
