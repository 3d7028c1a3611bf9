import { z } from 'zod';

import { instant, optional, reference } from './common.ts';

const invoice = z.looseObject({
  id: z.string().min(1),
  customer: optional(reference),
  billing_reason: optional(z.string()),
  amount_paid: optional(z.number()),
  status_transitions: optional(z.looseObject({ paid_at: optional(instant) })),
  /** Until API 2025-03 (basil). */
  subscription: optional(reference),
  /** Since then. */
  parent: optional(
    z.looseObject({ subscription_details: optional(z.looseObject({ subscription: optional(reference) })) }),
  ),
});

/** A paid invoice, as far as it says something about a subscription's money. */
export interface PaidInvoice {
  id: string;
  customerId: string | null;
  subscriptionId: string | null;
  /** It started the subscription. */
  first: boolean;
  /** Money moved. */
  positive: boolean;
  paidAt: Date | null;
}

/**
 * Reads an invoice in today's API shape and in those before 2025-03 (basil).
 * https://docs.stripe.com/api/invoices/object
 *
 * @param object the JSON object
 * @returns what we keep of it
 * @throws ZodError when it is no invoice in any of these shapes
 */
export function readPaidInvoice(object: unknown): PaidInvoice {
  const raw = invoice.parse(object);
  return {
    id: raw.id,
    customerId: raw.customer,
    subscriptionId: raw.parent?.subscription_details?.subscription ?? raw.subscription,
    first: raw.billing_reason === 'subscription_create',
    positive: (raw.amount_paid ?? 0) > 0,
    paidAt: raw.status_transitions?.paid_at ?? null,
  };
}
