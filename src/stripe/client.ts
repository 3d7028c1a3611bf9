import { Stripe } from 'stripe';

import type { StripeConfig } from '../config.ts';

/** Somebody waits for the answer at their browser: rather an error after 10 s than Stripe's own 80 s. */
const OPTIONS = { telemetry: false, timeout: 10_000 };

/**
 * @param config the key, and where Stripe's API is when that is not Stripe
 * @returns the client, or null when no key is configured
 */
export function createStripe({ apiKey, apiBase }: StripeConfig): Stripe | null {
  if (apiKey === null) return null;
  if (apiBase === null) return new Stripe(apiKey, OPTIONS);
  const { protocol, hostname, port } = new URL(apiBase);
  return new Stripe(apiKey, {
    ...OPTIONS,
    protocol: protocol === 'https:' ? 'https' : 'http',
    host: hostname,
    ...(port !== '' && { port: Number(port) }),
  });
}
