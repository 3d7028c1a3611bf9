import type { Stripe } from 'stripe';

import type { StripeConfig } from '../config.ts';
import type { User } from '../db/generated/client.ts';
import type { Db } from '../db/transaction.ts';
import { inTransaction } from '../db/transaction.ts';
import { lockCustomer } from './facts/customers.ts';
import { TERMINAL_STATUSES } from './facts/ordering.ts';
import { linkCustomer } from './link-customer.ts';
import type { Plan } from './prices.ts';

export interface BillingContext {
  db: Db;
  stripe: Stripe;
  config: StripeConfig;
  publicUrl: string;
}

/**
 * @param db the database
 * @param userId whose subscriptions
 * @returns whether one of them is not over: it is managed in the portal, and no second one is sold
 */
export async function hasLiveSubscription(db: Db, userId: string): Promise<boolean> {
  const count = await db.subscription.count({
    where: { customer: { userId }, status: { not: null, notIn: [...TERMINAL_STATUSES, 'incomplete'] } },
  });
  return count > 0;
}

/**
 * Opens a checkout at Stripe. https://docs.stripe.com/api/checkout/sessions/create
 *
 * @param context Stripe, the database, and where we are
 * @param user who buys
 * @param plan what they buy
 * @param priceId its price at Stripe
 * @param now the instant, UTC
 * @returns the address of the checkout page
 * @throws StripeError when Stripe refuses or cannot be reached
 */
export async function openCheckout(
  context: BillingContext,
  user: User,
  plan: Plan,
  priceId: string,
  now: Date,
): Promise<string> {
  const { stripe, config, publicUrl, db } = context;
  const customer = await ensureCustomer(context, user, now);
  const trialDays = (await mayTry(db, user)) ? config.trialDays : 0;
  const session = await stripe.checkout.sessions.create({
    mode: 'subscription',
    customer,
    client_reference_id: user.id,
    metadata: { userId: user.id },
    line_items: [{ price: priceId, quantity: 1 }],
    // Cards only: a bank debit would be "active" for days before its money moves.
    allowed_payment_method_types: ['card'],
    subscription_data: {
      metadata: { userId: user.id, plan },
      ...(trialDays > 0 && { trial_period_days: trialDays }),
    },
    success_url: `${publicUrl}/settings?checkout=done`,
    cancel_url: `${publicUrl}/pricing`,
  });
  if (!session.url) throw new Error(`Stripe opened the checkout session ${session.id} without a page.`);
  return session.url;
}

/**
 * Opens the customer portal at Stripe. https://docs.stripe.com/api/customer_portal/sessions/create
 *
 * @param context Stripe, the database, and where we are
 * @param user who asks
 * @returns the address of the portal, or null when the user has never been a customer
 * @throws StripeError when Stripe refuses or cannot be reached
 */
export async function openPortal(context: BillingContext, user: User): Promise<string | null> {
  const customer = await context.db.customer.findFirst({
    where: { userId: user.id, deletedAt: null },
    orderBy: [{ subscriptions: { _count: 'desc' } }, { id: 'asc' }],
  });
  if (!customer) return null;
  const session = await context.stripe.billingPortal.sessions.create({
    customer: customer.id,
    return_url: `${context.publicUrl}/settings`,
  });
  return session.url;
}

async function ensureCustomer({ db, stripe }: BillingContext, user: User, now: Date): Promise<string> {
  const customers = await db.customer.findMany({ where: { userId: user.id }, orderBy: { id: 'asc' } });
  const known = customers.find((customer) => customer.deletedAt === null);
  if (known) return known.id;

  const created = await stripe.customers.create(
    { metadata: { userId: user.id }, ...(user.email !== null && { email: user.email }) },
    // Two tabs at once get one customer. The next one, should this one be deleted at Stripe, has another key.
    { idempotencyKey: `customer-${user.id}-${customers.length}` },
  );
  await inTransaction(db, now, async (tx) => linkCustomer(tx, await lockCustomer(tx, created.id), user.id));
  return created.id;
}

/** A trial is offered once per address (design: rule 11). */
async function mayTry(db: Db, user: User): Promise<boolean> {
  const tried = await db.subscription.count({
    where: { trialEnd: { not: null }, customer: { user: { emailHash: user.emailHash } } },
  });
  return tried === 0;
}
