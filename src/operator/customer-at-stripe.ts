import { Stripe } from 'stripe';

import { PlainError } from '../plain-error.ts';
import { absenceOf } from '../stripe/missing.ts';
import { idOf } from '../stripe/objects/common.ts';
import { readEvent } from '../stripe/objects/event.ts';
import { sentence } from '../wording.ts';

/**
 * Asks Stripe which customer an object belongs to.
 *
 * @returns the customer's id; null when Stripe does not know the object, or it has no customer
 * @throws PlainError when Stripe cannot be asked
 */
export async function customerAtStripe(stripe: Stripe, id: string): Promise<string | null> {
  try {
    switch (id.split('_')[0]) {
      case 'sub':
        return idOf((await stripe.subscriptions.retrieve(id)).customer);
      case 'in':
        return idOf((await stripe.invoices.retrieve(id)).customer);
      case 'pi':
        return idOf((await stripe.paymentIntents.retrieve(id)).customer);
      case 'ch':
      case 'py':
        return idOf((await stripe.charges.retrieve(id)).customer);
      case 'cs':
        return idOf((await stripe.checkout.sessions.retrieve(id)).customer);
      case 'evt':
        return readEvent(await stripe.events.retrieve(id), new Date(0))?.customerId ?? null;
      default:
        return null;
    }
  } catch (error) {
    if (absenceOf(error) === 'gone') return null;
    if (!(error instanceof Stripe.errors.StripeError)) throw error;
    throw new PlainError(
      `${id} is not known here, and asking Stripe failed: ${sentence(error.message)} ${whatToDo(error)}`,
    );
  }
}

function whatToDo(error: Stripe.errors.StripeError): string {
  const { StripeAuthenticationError, StripePermissionError } = Stripe.errors;
  if (absenceOf(error) === 'other-mode') return 'Set STRIPE_API_KEY to the key of that mode.';
  return error instanceof StripeAuthenticationError || error instanceof StripePermissionError
    ? 'Check STRIPE_API_KEY.'
    : 'Try again later.';
}
