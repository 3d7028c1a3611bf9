import { Stripe } from 'stripe';

import { HttpError } from './errors.ts';

/**
 * Asks Stripe for somebody who waits at their browser.
 *
 * @param call asks
 * @returns what it returned
 * @throws HttpError 502 in words for them, when Stripe refused or could not be reached
 */
export async function askStripe<T>(call: () => Promise<T>): Promise<T> {
  try {
    return await call();
  } catch (error) {
    if (!(error instanceof Stripe.errors.StripeError)) throw error;
    throw new HttpError(
      502,
      'stripe_unavailable',
      'Stripe, which handles our payments, did not answer as it should. Nothing was paid. Please try again in a moment.',
      // Not the whole error: it carries the request, and with it an address.
      { cause: new Error(`${error.type} ${error.code ?? ''}, request ${error.requestId}: ${error.message}`) },
    );
  }
}
