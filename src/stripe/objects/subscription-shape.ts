import * as z from 'zod';

import { dateOf, idOf, instant, optionalReference, optionalText, text } from './common.ts';

const discount = z.union([z.string(), z.object({ id: z.string().nullish() })]).nullish();

const item = z.object({
  price: z
    .object({ id: optionalText, product: optionalReference, unit_amount: z.number().nullish() })
    .nullish(),
  /** Since API 2025-03 (basil) each item has its own period. */
  current_period_end: instant.nullish(),
  discounts: z.array(discount).nullish(),
});

export const subscriptionShape = z.object({
  id: text,
  customer: optionalReference,
  status: text,
  created: instant.nullish(),
  items: z.object({ data: z.array(item) }).nullish(),
  current_period_end: instant.nullish(),
  trial_end: instant.nullish(),
  cancel_at: instant.nullish(),
  cancel_at_period_end: z.boolean().nullish(),
  pause_collection: z.object({ resumes_at: instant.nullish() }).nullish(),
  ended_at: instant.nullish(),
  cancellation_details: z.object({ reason: optionalText }).nullish(),
  collection_method: z.string().nullish(),
  /** Until API 2025-03 (basil). */
  discount,
  discounts: z.array(discount).nullish(),
  test_clock: optionalReference,
});

/** What a subscription's row takes from its newest snapshot. */
export interface SubscriptionState {
  status: string;
  createdAt: Date | null;
  priceId: string | null;
  currentPeriodEnd: Date | null;
  /** The items after the first, as `itemsOf` reads them; null when there are none. */
  otherItems: string | null;
  trialEnd: Date | null;
  cancelAt: Date | null;
  cancelAtPeriodEnd: boolean;
  /** Payment collection is paused, until `collectionResumesAt` if that is set. */
  collectionPaused: boolean;
  collectionResumesAt: Date | null;
  endedAt: Date | null;
  /** Stripe's word for why it ended, or will end. */
  endReason: string | null;
  /** It contains a product that counts (design: rule 6). */
  counts: boolean;
}

/** The products whose subscriptions count (STRIPE_PRODUCTS); null when all do. */
export type Products = readonly string[] | null;

/** A subscription as shown by an event or by Stripe's API. */
export interface SubscriptionSnapshot {
  id: string;
  customerId: string | null;
  state: SubscriptionState;
  /** Being active may not mean that money moved (design: rule 9). */
  doubtful: boolean;
  /** Its time is simulated. https://docs.stripe.com/billing/testing/test-clocks */
  testClock: boolean;
}

/**
 * Reads a subscription in the API versions before and since 2025-03 (basil).
 * https://docs.stripe.com/api/subscriptions/object
 *
 * @throws ZodError when the object is not a subscription
 */
export function readSubscription(object: unknown, products: Products): SubscriptionSnapshot {
  const raw = subscriptionShape.parse(object);
  const items = raw.items?.data ?? [];
  const [first, ...others] = items.map((one) => ({
    priceId: one.price?.id ?? null,
    currentPeriodEnd: one.current_period_end ?? raw.current_period_end ?? null,
  }));
  return {
    id: raw.id,
    customerId: idOf(raw.customer),
    state: {
      status: raw.status,
      createdAt: dateOf(raw.created),
      priceId: first?.priceId ?? null,
      currentPeriodEnd: dateOf(first?.currentPeriodEnd ?? raw.current_period_end),
      otherItems: others.length > 0 ? JSON.stringify(others) : null,
      trialEnd: dateOf(raw.trial_end),
      cancelAt: dateOf(raw.cancel_at),
      cancelAtPeriodEnd: raw.cancel_at_period_end ?? false,
      collectionPaused: (raw.pause_collection ?? null) !== null,
      collectionResumesAt: dateOf(raw.pause_collection?.resumes_at),
      endedAt: dateOf(raw.ended_at),
      endReason: raw.cancellation_details?.reason ?? null,
      counts: products === null || items.some(({ price }) => products.includes(idOf(price?.product) ?? '')),
    },
    doubtful:
      raw.status === 'trialing' ||
      typeof raw.trial_end === 'number' ||
      raw.collection_method === 'send_invoice' ||
      [raw.discount, ...[raw, ...items].flatMap((part) => part.discounts ?? [])].some(isDiscount) ||
      (items.length > 0 && items.every((part) => part.price?.unit_amount === 0)),
    testClock: idOf(raw.test_clock) !== null,
  };
}

/** An empty string counts as absent. */
function isDiscount(one: z.infer<typeof discount>): boolean {
  return (one ?? '') !== '';
}
