import type { Stripe } from 'stripe';

import { ensureCustomerRow, linkCustomer } from '../access/customers.ts';
import type { StripeConfig } from '../config.ts';
import type { Customer, Prisma, User } from '../db/generated/client.ts';
import type { Db } from '../db/transaction.ts';
import { inTransaction } from '../db/transaction.ts';
import { inUnit } from '../db/unit-of-work.ts';
import { queueNow } from '../outbox/queue.ts';
import type { Programme } from '../programme.ts';
import { carryBalances } from './carry-balance.ts';

export interface BillingContext {
  db: Db;
  stripe: Stripe;
  config: StripeConfig;
  publicUrl: string;
  programme: Programme;
}

/**
 * The order of preference among a user's customers. The oldest link comes first, because somebody else may have linked a
 * later one.
 */
export const OLDEST_LINK_FIRST = [
  { linkedAt: { sort: 'asc', nulls: 'first' } },
  { id: 'asc' },
] as const satisfies Prisma.CustomerOrderByWithRelationInput[];

/**
 * The user's customer at Stripe for a new checkout, created and linked if there is none, with the credit of retired ones.
 *
 * @param checkoutId makes the idempotency key, so that two tabs with the same checkout get one customer
 * @returns Stripe's id of the customer; null when it was retired or moved to another account, or the account was deleted,
 *   in the meantime
 * @throws StripeError when Stripe refuses or cannot be reached
 */
export async function ensureCustomer(
  context: BillingContext,
  user: User,
  checkoutId: string,
  now: Date,
): Promise<string | null> {
  const customer =
    (await findUsable(context.db, user.id)) ?? (await createCustomer(context, user, checkoutId, now));
  if (customer !== null) await carryBalances(context, user.id, customer, now);
  return customer;
}

async function findUsable(db: Db, userId: string): Promise<string | null> {
  const found = await db.customer.findFirst({
    where: { userId, ...FOR_CHECKOUTS },
    orderBy: OLDEST_LINK_FIRST,
    select: { id: true },
  });
  return found?.id ?? null;
}

/** https://docs.stripe.com/api/customers/create */
async function createCustomer(
  { db, stripe, programme }: BillingContext,
  user: User,
  checkoutId: string,
  now: Date,
): Promise<string | null> {
  const created = await stripe.customers.create(
    { metadata: { userId: user.id }, ...(user.email !== null && { email: user.email }) },
    { idempotencyKey: `customer-${checkoutId}` },
  );
  await inTransaction(db, now, async (tx) => {
    const isLinked = await inUnit(tx, programme, { customers: [created.id], users: [user.id] }, (unit) => {
      // Another tab's checkout may have created one meanwhile. Nothing is ever sold to a second one.
      const hasOther = [...unit.rows.customers.values()].some(
        (one) => one.userId === user.id && one.id !== created.id && isForCheckouts(one),
      );
      if (hasOther || !linkCustomer(unit, ensureCustomerRow(unit, created.id), user.id)) return false;
      unit.rows.customers.set(created.id, { ...ensureCustomerRow(unit, created.id), ours: true });
      return true;
    });
    if (!isLinked) return;
    // If the address changed while Stripe was creating this customer, only the user's other customers were told.
    const { email } = await tx.user.findUniqueOrThrow({ where: { id: user.id }, select: { email: true } });
    if (email !== null && email !== user.email) {
      const data = { customerId: created.id };
      await queueNow(tx, [{ kind: 'stripe.customer-address', userId: user.id, data }]);
    }
  });
  return findUsable(db, user.id);
}

/** Customers that may be used for new checkouts. */
const FOR_CHECKOUTS = { ours: true, deletedAt: null, missingAt: null, retiredAt: null } as const;

/** Whether a customer may be used for new checkouts (`FOR_CHECKOUTS`). */
export function isForCheckouts({ ours, deletedAt, missingAt, retiredAt }: Customer): boolean {
  return ours && deletedAt === null && missingAt === null && retiredAt === null;
}
