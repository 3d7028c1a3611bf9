import * as z from 'zod';

import { ensureCustomerRow, linkCustomer } from '../../access/customers.ts';
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

export interface CompletedCheckout {
  customerId: string | null;
  subscriptionId: string | null;
  /** The ids that may name one of our users, best first. */
  userReferences: string[];
  /** The payment is still pending: a bank debit. */
  unpaid: boolean;
}

/**
 * Reads a checkout session. https://docs.stripe.com/api/checkout/sessions/object
 *
 * @throws ZodError when the object is not a checkout session
 */
export function readCheckoutSession(object: unknown): CompletedCheckout {
  const raw = checkoutSessionShape.parse(object);
  // Another product's checkout can hold any text here; ignore texts that cannot be a user id.
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

/** The reason for ignoring a checkout whose customer belongs to another user; `doctor` looks for it. */
export const CLAIMED_BY_ANOTHER = 'the customer belongs to another user';

const NO_USER = 'the checkout session names none of our users';

/**
 * `checkout.session.completed`, `async_payment_succeeded` and `async_payment_failed`: links the customer to the user,
 * which applies all facts that waited for the link. A bank debit, pending or not, needs a paid invoice as proof; one in a
 * checkout that names none of our users is not noticed until its invoice fails.
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
      if (!user) return ignored(NO_USER);
      if (others.length > 0) return ignored('the checkout session names two of our users');

      const customer = ensureCustomerRow(tx, customerId);
      if (!linkCustomer(tx, customer, user.id)) return ignored(CLAIMED_BY_ANOTHER);

      if (subscriptionId !== null && (unpaid || event.type !== 'checkout.session.completed')) {
        const subscription = ensureSubscription(tx, subscriptionId, customerId);
        const byDebit = { ...subscription, checkoutUnpaid: true };
        tx.rows.subscriptions.set(subscriptionId, byDebit);
        refreshProof(tx, byDebit, event.created);
      }
      follow(tx, user.id, causeOf(event), true);
      return OK;
    },
  };
};
