import { z } from 'zod';

import { optional, reference } from './common.ts';

const checkoutSession = z.looseObject({
  id: z.string().min(1),
  customer: optional(reference),
  subscription: optional(reference),
  client_reference_id: optional(z.string()),
  metadata: optional(z.record(z.string(), z.string())),
  payment_status: optional(z.string()),
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
  const raw = checkoutSession.parse(object);
  const references = [raw.client_reference_id, raw.metadata?.['userId']].filter(
    (id) => typeof id === 'string',
  );
  return {
    customerId: raw.customer,
    subscriptionId: raw.subscription,
    userReferences: [...new Set(references)],
    unpaid: raw.payment_status === 'unpaid',
  };
}
