import * as z from 'zod';

import { dateOf, idOf, instant, optionalReference, text } from './common.ts';

export const invoiceShape = z.object({
  id: text,
  customer: optionalReference,
  status: z.string().nullish(),
  attempted: z.boolean().nullish(),
  billing_reason: z.string().nullish(),
  amount_paid: z.number().nullish(),
  status_transitions: z.object({ paid_at: instant.nullish() }).nullish(),
  test_clock: optionalReference,
  /** Until API 2025-03 (basil) an invoice named its subscription and its payment by itself. */
  subscription: optionalReference,
  payment_intent: optionalReference,
  charge: optionalReference,
  /** Since then its subscription is here, and its payments are objects of their own (see invoice-payment.ts). */
  parent: z
    .object({ subscription_details: z.object({ subscription: optionalReference }).nullish() })
    .nullish(),
});

/** An invoice, as far as it says something about a subscription's money. */
export interface InvoiceFacts {
  id: string;
  customerId: string | null;
  subscriptionId: string | null;
  /** Its payment, in the shapes that name it: of the payment intent, else of the charge. */
  paymentId: string | null;
  /** It started the subscription. */
  first: boolean;
  /** Money moved. */
  positive: boolean;
  paidAt: Date | null;
  status: string | null;
  /** Collecting it was tried. */
  attempted: boolean;
  /** Its time is a simulation. https://docs.stripe.com/billing/testing/test-clocks */
  testClock: boolean;
}

/**
 * Reads an invoice in today's API shape and in those before 2025-03 (basil).
 * https://docs.stripe.com/api/invoices/object
 *
 * @param object the JSON object
 * @returns what we keep of it
 * @throws ZodError when it is no invoice in any of these shapes
 */
export function readInvoice(object: unknown): InvoiceFacts {
  const raw = invoiceShape.parse(object);
  return {
    id: raw.id,
    customerId: idOf(raw.customer),
    subscriptionId: idOf(raw.parent?.subscription_details?.subscription ?? raw.subscription),
    paymentId: idOf(raw.payment_intent ?? raw.charge),
    first: raw.billing_reason === 'subscription_create',
    positive: (raw.amount_paid ?? 0) > 0,
    paidAt: dateOf(raw.status_transitions?.paid_at),
    status: raw.status ?? null,
    attempted: raw.attempted ?? false,
    testClock: idOf(raw.test_clock) !== null,
  };
}
