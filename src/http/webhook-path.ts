/** Where Stripe posts its events. */
export const WEBHOOK_PATH = '/api/stripe/webhook';
