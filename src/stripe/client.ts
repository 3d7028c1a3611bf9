import { Stripe } from 'stripe';

import { bareHost } from '../bare-host.ts';
import type { StripeConfig } from '../config.ts';

/**
 * A browser may be waiting for the answer, so give up after two attempts of 10 s. The package's defaults are three of
 * 80 s.
 */
const OPTIONS = { telemetry: false, timeout: 10_000, maxNetworkRetries: 1 };

/** @returns null when no key is configured */
export function createStripe({ apiKey, apiBase }: StripeConfig): Stripe | null {
  if (apiKey === null) return null;
  if (apiBase === null) return new Stripe(apiKey, OPTIONS);
  const { protocol, port } = new URL(apiBase);
  return new Stripe(apiKey, {
    ...OPTIONS,
    protocol: protocol === 'https:' ? 'https' : 'http',
    host: bareHost(apiBase),
    ...(port !== '' && { port: Number(port) }),
  });
}
