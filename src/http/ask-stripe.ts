import { Stripe } from 'stripe';

import { absenceOf } from '../stripe/missing.ts';
import { HttpError } from './errors.ts';

/** What did not happen, in a sentence for the person who asked for it. */
export type NotDone =
  `${'Nothing was' | 'Your account was not' | 'Your address was not' | 'Your password was not'} ${string}.`;

const unavailable = (notDone: NotDone): string =>
  `Stripe, which handles our payments, did not answer properly. ${notDone} Please try again in a moment.`;
const refused = (notDone: NotDone): string =>
  `Stripe, which handles our payments, refused this. ${notDone} Trying again will not help: something is set up wrong on our side, and we have to fix it first.`;

/**
 * Calls Stripe on behalf of someone waiting at their browser.
 *
 * @throws HttpError 502 with a message for them when Stripe refused or could not be reached; its cause is for
 * the operator
 */
export async function askStripe<T>(notDone: NotDone, call: () => Promise<T>): Promise<T> {
  try {
    return await call();
  } catch (error) {
    if (!(error instanceof Stripe.errors.StripeError)) throw error;
    const { type, code = '', requestId = '', message } = error;
    const advice =
      absenceOf(error) === 'other-mode'
        ? ' STRIPE_API_KEY belongs to a different mode than the ids in the database: set the right key, or the right database.'
        : '';
    // Do not log the whole error: it carries the request, which contains an email address.
    const cause = new Error(`${type} ${code}, request ${requestId}: ${message}${advice}`);
    throw isPermanent(error)
      ? new HttpError(502, 'stripe_refused', refused(notDone), { cause })
      : new HttpError(502, 'stripe_unavailable', unavailable(notDone), { cause });
  }
}

/**
 * Whether Stripe would refuse the same request again. https://docs.stripe.com/api/errors and
 * https://docs.stripe.com/rate-limits
 */
function isPermanent({ statusCode }: Stripe.errors.StripeError): boolean {
  return statusCode !== undefined && statusCode >= 400 && statusCode < 500 && !TRANSIENT.has(statusCode);
}

/** Timeout, conflict, locked, failed dependency and too many requests. */
const TRANSIENT = new Set([408, 409, 423, 424, 429]);
