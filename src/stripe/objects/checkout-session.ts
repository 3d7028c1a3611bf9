import * as z from 'zod';

import { idOf, optionalReference, text } from './common.ts';

export const checkoutSessionShape = z.object({
  id: text,
  customer: optionalReference,
  subscription: optionalReference,
  client_reference_id: z.string().nullish(),
  metadata: z.object({ userId: z.string().nullish() }).nullish(),
  payment_status: z.string().nullish(),
});

/** A checkout session that has ended. */
export interface CompletedCheckout {
  customerId: string | null;
  subscriptionId: string | null;
  /** The ids that may name one of our users, best first. */
  userReferences: string[];
  /** The payment is still under way: a bank debit. */
  unpaid: boolean;
}

/**
 * Reads a checkout session. https://docs.stripe.com/api/checkout/sessions/object
 *
 * @param object the JSON object
 * @returns what we keep of it
 * @throws ZodError when it is no checkout session
 */
export function readCheckoutSession(object: unknown): CompletedCheckout {
  const raw = checkoutSessionShape.parse(object);
  // Another product's checkout can hold any text there: such a text names none of our users.
  const references = [raw.client_reference_id, raw.metadata?.userId].flatMap(
    (id) => text.safeParse(id).data ?? [],
  );
  return {
    customerId: idOf(raw.customer),
    subscriptionId: idOf(raw.subscription),
    userReferences: [...new Set(references)],
    unpaid: raw.payment_status === 'unpaid',
  };
}
