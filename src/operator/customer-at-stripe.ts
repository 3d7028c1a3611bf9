import { Stripe } from 'stripe';

import { PlainError } from '../plain-error.ts';
import { absenceOf } from '../stripe/missing.ts';
import { idOf } from '../stripe/objects/common.ts';
import { readEvent } from '../stripe/objects/event.ts';
import { sentence } from '../wording.ts';
import type { Named } from './who.ts';

/**
 * Asks Stripe which customer an object belongs to. An event of a dispute, a refund or an invoice payment names no
 * customer; for these, `aboutId` is the invoice or payment that it is about.
 *
 * @returns null when Stripe does not know the object
 * @throws PlainError when Stripe cannot be asked
 */
export async function askForCustomer(stripe: Stripe, id: string): Promise<Named | null> {
  try {
    if (id.startsWith('evt_')) return readEvent(await stripe.events.retrieve(id), new Date(0));
    return { customerId: idOf(await readCustomer(stripe, id)), aboutId: null };
  } catch (error) {
    if (absenceOf(error) === 'gone') return null;
    if (!(error instanceof Stripe.errors.StripeError)) throw error;
    throw new PlainError(
      `${id} is not known here, and asking Stripe failed: ${sentence(error.message)} ${whatToDo(error)}`,
    );
  }
}

async function readCustomer(stripe: Stripe, id: string) {
  switch (id.split('_')[0]) {
    case 'sub':
      return (await stripe.subscriptions.retrieve(id)).customer;
    case 'in':
      return (await stripe.invoices.retrieve(id)).customer;
    case 'pi':
      return (await stripe.paymentIntents.retrieve(id)).customer;
    case 'ch':
    case 'py':
      return (await stripe.charges.retrieve(id)).customer;
    case 'cs':
      return (await stripe.checkout.sessions.retrieve(id)).customer;
    default:
      return null;
  }
}

function whatToDo(error: Stripe.errors.StripeError): string {
  const { StripeAuthenticationError, StripePermissionError } = Stripe.errors;
  if (absenceOf(error) === 'other-mode') return 'Set STRIPE_API_KEY to the key of that mode.';
  return error instanceof StripeAuthenticationError || error instanceof StripePermissionError
    ? 'Check STRIPE_API_KEY.'
    : 'Try again later.';
}
