import type { FastifyRequest } from 'fastify';

/** Where Stripe posts its events. */
export const WEBHOOK_PATH = '/api/stripe/webhook';

export function isWebhook({ routeOptions }: FastifyRequest): boolean {
  return routeOptions.url?.startsWith(WEBHOOK_PATH) ?? false;
}
