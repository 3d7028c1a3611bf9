import { z } from 'zod';

import { instant, optional, reference } from './common.ts';

const discounts = {
  /** Until API 2025-03 (basil). */
  discount: optional(z.unknown()),
  discounts: optional(z.array(z.unknown())),
};

const item = z.looseObject({
  price: optional(z.looseObject({ id: z.string(), unit_amount: optional(z.number()) })),
  /** Since API 2025-03 (basil) the period is the item's. */
  current_period_end: optional(instant),
  discounts: discounts.discounts,
});

const subscription = z.looseObject({
  id: z.string().min(1),
  customer: optional(reference),
  status: z.string().min(1),
  created: optional(instant),
  items: optional(z.looseObject({ data: z.array(item) })),
  current_period_end: optional(instant),
  trial_end: optional(instant),
  cancel_at: optional(instant),
  cancel_at_period_end: optional(z.boolean()),
  ended_at: optional(instant),
  collection_method: optional(z.string()),
  ...discounts,
});

/** What the row of a subscription takes over from its newest snapshot. */
export interface SubscriptionState {
  status: string;
  createdAt: Date | null;
  priceId: string | null;
  currentPeriodEnd: Date | null;
  trialEnd: Date | null;
  cancelAt: Date | null;
  cancelAtPeriodEnd: boolean;
  endedAt: Date | null;
}

/** A subscription as one event, or Stripe's answer, shows it. */
export interface SubscriptionSnapshot {
  id: string;
  customerId: string | null;
  state: SubscriptionState;
  /** Being active need not mean that money moved (design: rule 9). */
  doubtful: boolean;
}

/**
 * Reads a subscription in today's API shape and in those before 2025-03 (basil).
 * https://docs.stripe.com/api/subscriptions/object
 *
 * @param object the JSON object
 * @returns what we keep of it
 * @throws ZodError when it is no subscription in any of these shapes
 */
export function readSubscription(object: unknown): SubscriptionSnapshot {
  const raw = subscription.parse(object);
  const items = raw.items?.data ?? [];
  const [first] = items;
  return {
    id: raw.id,
    customerId: raw.customer,
    state: {
      status: raw.status,
      createdAt: raw.created,
      priceId: first?.price?.id ?? null,
      currentPeriodEnd: first?.current_period_end ?? raw.current_period_end,
      trialEnd: raw.trial_end,
      cancelAt: raw.cancel_at,
      cancelAtPeriodEnd: raw.cancel_at_period_end ?? false,
      endedAt: raw.ended_at,
    },
    doubtful:
      raw.status === 'trialing' ||
      raw.trial_end !== null ||
      raw.collection_method === 'send_invoice' ||
      raw.discount !== null ||
      [raw, ...items].some((part) => (part.discounts ?? []).length > 0) ||
      (items.length > 0 && items.every((part) => part.price?.unit_amount === 0)),
  };
}
