import * as z from 'zod';

import { customerOf, linkCustomer } from '../../access/customers.ts';
import { follow } from '../../access/follow.ts';
import { ensureSubscription, refreshProof } from '../../access/subscriptions.ts';
import { idOf, optionalReference, text } from './common.ts';
import { causeOf, ignored, OK } from './handler.ts';
import type { EventHandler } from './handler.ts';

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

/** What an ignored checkout says when its customer has an owner already; `doctor` looks for it. */
export const CLAIMED_BY_ANOTHER = 'the customer belongs to another user';

const OF_NOBODY = 'the checkout session names none of our users';

/**
 * `checkout.session.completed`, `async_payment_succeeded` and `async_payment_failed`: tells whose customer it is.
 * Linking applies all facts that waited for it. Also tells when the payment is, or was, still under way: then only a
 * paid invoice proves it.
 */
export const onCheckoutCompleted: EventHandler = (event) => {
  const { customerId, subscriptionId, userReferences, unpaid } = readCheckoutSession(event.object);
  if (customerId === null) return ignored('the checkout session has no customer');
  return {
    wants: {
      users: userReferences,
      customers: [customerId],
      subscriptions: subscriptionId === null ? [] : [subscriptionId],
    },
    apply: (tx) => {
      const users = userReferences.flatMap((id) => tx.rows.users.get(id) ?? []);
      const [user, ...others] = users.filter(({ deletedAt }) => deletedAt === null);
      if (!user) return ignored(OF_NOBODY);
      if (others.length > 0) return ignored('the checkout session names two of our users');

      const customer = customerOf(tx, customerId);
      if (!linkCustomer(tx, customer, user.id)) return ignored(CLAIMED_BY_ANOTHER);

      if (subscriptionId !== null && (unpaid || event.type !== 'checkout.session.completed')) {
        const subscription = ensureSubscription(tx, subscriptionId, customerId);
        const underWay = { ...subscription, checkoutUnpaid: true };
        tx.rows.subscriptions.set(subscriptionId, underWay);
        refreshProof(tx, underWay, event.created);
      }
      follow(tx, user.id, causeOf(event), true);
      return OK;
    },
  };
};
