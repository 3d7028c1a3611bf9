import { randomUUID } from 'node:crypto';

import { Stripe } from 'stripe';

import type { Checkout, User } from '../db/generated/client.ts';
import { lockUser } from '../db/lock-user.ts';
import type { Db } from '../db/transaction.ts';
import { inTransaction } from '../db/transaction.ts';
import { TERMINAL_STATUSES } from '../access/live.ts';
import type { Plan } from './prices.ts';
import { absenceOf, noteCustomerMissing, unlessGone } from './missing.ts';
import { ensureCustomer } from './ensure-customer.ts';
import type { BillingContext } from './ensure-customer.ts';
import { readSubscription } from './objects/subscription.ts';
import type { Products } from './objects/subscription.ts';
import { mayTry } from '../access/trials.ts';

/** So often a checkout that turns out to be over, or that another tab replaced meanwhile, is replaced by a new one. */
const MAX_TRIES = 5;

/** Other requests of the same user were faster: they deleted the account, or opened another checkout again and again. */
export class CheckoutImpossible extends Error {
  override name = 'CheckoutImpossible';
  readonly reason: 'account-deleted' | 'replaced-too-often';
  constructor(reason: CheckoutImpossible['reason']) {
    super(`The checkout cannot be opened: ${reason}.`);
    this.reason = reason;
  }
}

/** What a checkout sells. */
export type Order = Pick<Checkout, 'plan' | 'priceId' | 'trialDays'>;

/**
 * Opens a checkout at Stripe. A user has at most one open: the same plan gets the one that is open already, another
 * plan closes it first, so that two tabs can never pay twice.
 * https://docs.stripe.com/api/checkout/sessions/create
 *
 * @param context Stripe, the database, and where we are
 * @param user who buys
 * @param plan what they buy
 * @param priceId its price at Stripe
 * @param now the instant, UTC
 * @returns the address of the checkout page; null when the last checkout was paid, and its webhook is on its way
 * @throws StripeError when Stripe refuses or cannot be reached
 * @throws CheckoutImpossible when other requests of the user were faster
 */
export async function openCheckout(
  context: BillingContext,
  user: User,
  plan: Plan,
  priceId: string,
  now: Date,
): Promise<string | null> {
  const { db, stripe, config } = context;
  const order = { plan, priceId, trialDays: (await mayTry(db, user)) ? config.trialDays : 0 };
  let over: string | null = null;
  for (let tries = 1; tries <= MAX_TRIES; tries += 1) {
    const checkout = await claimCheckout(db, user.id, order, over, now);
    const session = await sessionOf(context, user, checkout, now);
    if (session === null) {
      over = checkout.id;
      continue;
    }
    const { subscription } = session;
    if (session.status === 'complete' && isNotOver(subscription) && isOurs(subscription, config.products))
      return null;
    if (session.status === 'open' && session.url !== null) {
      if (checkout.plan === plan && checkout.priceId === priceId) return session.url;
      await expire(stripe, session.id);
      await cancelUnfinished(stripe, session.customer, config.products);
      // It is looked at again before it is replaced: it may have been paid at the last moment.
      continue;
    }
    over = checkout.id;
  }
  throw new CheckoutImpossible('replaced-too-often');
}

/** The user's one checkout; a new one when there is none, or when the one called `over` is still in its place. */
async function claimCheckout(
  db: Db,
  userId: string,
  order: Order,
  over: string | null,
  now: Date,
): Promise<Checkout> {
  return inTransaction(db, now, async (tx) => {
    const user = await lockUser(tx, userId);
    if (!user || user.deletedAt) throw new CheckoutImpossible('account-deleted');
    const known = await tx.checkout.findUnique({ where: { userId } });
    if (known && known.id !== over) return known;
    const fresh = { ...order, id: randomUUID(), sessionId: null, createdAt: tx.now };
    return tx.checkout.upsert({ where: { userId }, create: { userId, ...fresh }, update: fresh });
  });
}

/**
 * The session of a checkout as it is now, created when it has none yet; null when nobody can pay in it: another tab replaced
 * the checkout meanwhile, or Stripe does not know the session, or the customer it was to be for.
 */
async function sessionOf(
  context: BillingContext,
  user: User,
  checkout: Checkout,
  now: Date,
): Promise<Stripe.Checkout.Session | null> {
  const { db, stripe } = context;
  const { sessionId } = checkout;
  if (sessionId !== null) {
    return unlessGone(() => stripe.checkout.sessions.retrieve(sessionId, { expand: ['subscription'] }));
  }
  let customer: string | null = null;
  try {
    customer = await ensureCustomer(context, user, checkout.id, now);
    const session = await createSession(context, user, customer, checkout);
    const noted = await inTransaction(db, now, async (tx) =>
      tx.checkout.updateMany({ where: { id: checkout.id }, data: { sessionId: session.id } }),
    );
    if (noted.count > 0) return session;
    // Another tab replaced the checkout meanwhile, or the account is deleted: nobody must pay here.
    await expire(stripe, session.id);
    return null;
  } catch (error) {
    // Stripe keeps the answer to a key, a refusal as well: the next try wants a new one.
    if (isKept(error)) {
      await inTransaction(db, now, async (tx) => {
        await tx.checkout.deleteMany({ where: { id: checkout.id, sessionId: null } });
      });
    }
    if (customer === null || !isCustomerGone(error)) throw error;
    await noteCustomerMissing(db, customer, now);
    return null;
  }
}

async function createSession(
  { stripe, publicUrl }: BillingContext,
  user: User,
  customer: string,
  { id, plan, priceId, trialDays }: Checkout,
): Promise<Stripe.Checkout.Session> {
  return stripe.checkout.sessions.create(
    {
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
    },
    // Two tabs at once get one session. https://docs.stripe.com/api/idempotent_requests
    { idempotencyKey: `checkout-${id}` },
  );
}

/**
 * Closes a checkout session at Stripe; one that is over already stays as it is, and so does one that Stripe does not know.
 *
 * @param stripe Stripe
 * @param sessionId the session
 * @throws StripeError when Stripe cannot be reached, or knows the session in its other mode
 */
export async function expire(stripe: Stripe, sessionId: string): Promise<void> {
  try {
    await stripe.checkout.sessions.expire(sessionId);
  } catch (error) {
    const isOver = error instanceof Stripe.errors.StripeInvalidRequestError;
    if (!isOver || absenceOf(error) === 'other-mode') throw error;
  }
}

/** A first payment of ours that the bank has yet to allow keeps a subscription waiting: it must not be allowed later. */
async function cancelUnfinished(
  stripe: Stripe,
  customer: Stripe.Checkout.Session['customer'],
  products: Products,
): Promise<void> {
  if (customer === null) return;
  const id = typeof customer === 'string' ? customer : customer.id;
  const waiting = await unlessGone(() => stripe.subscriptions.list({ customer: id, status: 'incomplete' }));
  for (const listed of waiting?.data ?? []) {
    const { id, state } = readSubscription(listed, products);
    if (state.counts) await unlessGone(() => stripe.subscriptions.cancel(id));
  }
}

/**
 * @param subscription of a checkout session
 * @returns whether there is one that is not over
 */
export function isNotOver(subscription: string | Stripe.Subscription | null): boolean {
  if (subscription === null) return false;
  return typeof subscription === 'string' || !TERMINAL_STATUSES.has(subscription.status);
}

/** What a checkout of ours sold need not be sold any more: a plan of today is another product then. */
function isOurs(subscription: Stripe.Checkout.Session['subscription'], products: Products): boolean {
  return (
    subscription === null ||
    typeof subscription === 'string' ||
    readSubscription(subscription, products).state.counts
  );
}

/** Whether Stripe answered, and would give the same answer to the same key: not when it never did, or is still at it. */
function isKept(error: unknown): boolean {
  return (
    error instanceof Stripe.errors.StripeError && error.statusCode !== undefined && error.statusCode !== 409
  );
}

/** The customer and not, say, the price. */
function isCustomerGone(error: unknown): boolean {
  return (
    absenceOf(error) === 'gone' &&
    error instanceof Stripe.errors.StripeInvalidRequestError &&
    error.param === 'customer'
  );
}
