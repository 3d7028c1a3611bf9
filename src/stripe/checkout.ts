import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';

import { Stripe } from 'stripe';

import { anyLiveAndKnown, isOver, TERMINAL_STATUSES } from '../access/live.ts';
import { isTrialAvailable } from '../access/trials.ts';
import type { Plan } from '../config.ts';
import type { Checkout, User } from '../db/generated/client.ts';
import { isUsable, lockUser } from '../db/lock-user.ts';
import type { Db } from '../db/transaction.ts';
import { inTransaction } from '../db/transaction.ts';
import { isInvitationOpen } from '../referrals/capture.ts';
import { REFERRAL_CREDIT_DAYS } from '../referrals/convert.ts';
import { endUnfinished, expire } from './end-payments.ts';
import { ensureCustomer, isForCheckouts } from './ensure-customer.ts';
import type { BillingContext } from './ensure-customer.ts';
import { absenceOf, noteCustomerMissing, unlessGone } from './missing.ts';
import { idOf } from './objects/common.ts';
import { readSubscription } from './objects/subscription-shape.ts';
import type { Products } from './objects/subscription-shape.ts';
import { isStored } from './stored-answer.ts';

/** Attempts before giving up. */
const MAX_TRIES = 5;

/** How long to wait while Stripe is working on another request with the same idempotency key, ms. */
const PAUSE_MS = 500;

/** Shown on Stripe's page, above the button. */
const INVITATION = `Your invitation: ${REFERRAL_CREDIT_DAYS} free days with your first payment.`;

/**
 * No checkout can be opened. `account-changed`: the account was deleted or shut out, or its password was changed.
 * `subscribed`: it has a live subscription by now. `payment-pending`: an earlier payment awaits the bank's approval, or may
 * be under way in a session that Stripe does not close.
 * `replaced-too-often`: other requests of the same user kept opening other checkouts, or Stripe was still working on
 * one of them.
 */
export class CheckoutImpossible extends Error {
  override name = 'CheckoutImpossible';
  readonly reason: 'account-changed' | 'subscribed' | 'payment-pending' | 'replaced-too-often';
  constructor(reason: CheckoutImpossible['reason']) {
    super(`No checkout can be opened: ${reason}.`);
    this.reason = reason;
  }
}

type Order = Pick<Checkout, 'plan' | 'priceId' | 'trialDays'>;

/**
 * Opens a checkout at Stripe. A user has at most one, so that two tabs can never pay twice. What happens depends on the
 * status of its last session: https://docs.stripe.com/api/checkout/sessions/create
 *
 * - `open`, for the same plan: it is used again.
 * - `open`, but for another plan or price, with a trial that the user can no longer have, with a promise of free days that
 *   is no longer right (or without one that is due), or for a customer that no longer exists or was retired: we expire it
 *   and look again.
 * - `complete`, and its subscription is not over: it has been paid, or its trial has begun, and its webhook is
 *   still to come. No checkout is opened.
 * - `complete`, but its subscription is over or for another product: a new one replaces it.
 * - `expired`: we end first payments that await the bank's approval, and then a new one replaces it.
 *
 * @param notAtStripe ids of subscriptions that are live in our rows, but not at Stripe
 * @returns the checkout page's URL; null when the last checkout was completed and its webhook is still to come
 * @throws StripeError when Stripe refuses or cannot be reached
 * @throws CheckoutImpossible with the reason
 */
export async function openCheckout(
  context: BillingContext,
  user: User,
  { plan, priceId, notAtStripe }: { plan: Plan; priceId: string; notAtStripe: string[] },
  now: Date,
): Promise<string | null> {
  const { db, stripe, config } = context;
  let trialDays = config.trialDays > 0 && (await isTrialAvailable(db, user)) ? config.trialDays : 0;
  let over: string | null = null;
  for (let tries = 1; tries <= MAX_TRIES; tries += 1) {
    const checkout = await claimCheckout(db, user, { plan, priceId, trialDays, notAtStripe }, over, now);
    const session = await sessionOf(context, user, checkout, now).catch(whenKeyIsTaken);
    if (session === 'key-taken') continue;
    if (session === null) {
      over = checkout.id;
      continue;
    }
    const { subscription } = session;
    // Its trial has begun, and may have ended, even if we have not heard of it yet.
    if (session.status === 'complete' && checkout.trialDays > 0) trialDays = 0;
    if (session.status === 'complete' && isUnderWay(subscription) && isOurs(subscription, config.products))
      return null;
    if (session.status === 'open' && session.url !== null) {
      const isSameOrder = checkout.plan === plan && checkout.priceId === priceId;
      // If the address has been proven since, we may now know that the invitation will be refused.
      const invites = Boolean(session.custom_text.submit);
      const isSamePromise = invites === (await isInvitationOpen(db, user.id));
      // The trial has been used up since. Stripe would still run it, and the user would have no access until the first
      // payment.
      const isTrialGone = checkout.trialDays > 0 && trialDays === 0;
      if (
        isSameOrder &&
        isSamePromise &&
        !isTrialGone &&
        (await isCustomerUsable(db, idOf(session.customer)))
      )
        return session.url;
      if (!(await expire(stripe, session.id))) throw new CheckoutImpossible('payment-pending');
      // Look again before replacing it: it may have been paid at the last moment.
      continue;
    }
    const customer = idOf(session.customer);
    if (session.status === 'expired' && customer !== null) {
      const isBeingPaid = (one: Stripe.Subscription) => isOfNewerCheckout(db, checkout, one);
      const unfinished = await endUnfinished(stripe, customer, config.products, isBeingPaid);
      if (unfinished !== 'ended')
        throw new CheckoutImpossible(unfinished === 'live' ? 'subscribed' : 'payment-pending');
    }
    over = checkout.id;
  }
  throw new CheckoutImpossible('replaced-too-often');
}

/** The user's one checkout. Creates one when there is none, or when the current one is `over`. */
async function claimCheckout(
  db: Db,
  asked: User,
  { notAtStripe, ...order }: Order & { notAtStripe: string[] },
  over: string | null,
  now: Date,
): Promise<Checkout> {
  const userId = asked.id;
  return inTransaction(db, now, async (tx) => {
    if (!isSameHolder(await lockUser(tx, userId), asked, tx.now))
      throw new CheckoutImpossible('account-changed');
    const current = await tx.checkout.findUnique({ where: { userId } });
    if (current && current.id !== over) return current;
    const subscriptions = await tx.subscription.findMany({
      where: { id: { notIn: notAtStripe }, status: { notIn: [...TERMINAL_STATUSES] }, customer: { userId } },
    });
    // An operator has moved one here, or its webhook has just arrived.
    if (anyLiveAndKnown(subscriptions)) throw new CheckoutImpossible('subscribed');
    const fresh = { ...order, id: randomUUID(), sessionId: null, createdAt: tx.now };
    return tx.checkout.upsert({ where: { userId }, create: { userId, ...fresh }, update: fresh });
  });
}

/** Whether the account was neither deleted nor shut out since the request began, nor claimed with a new password. */
function isSameHolder(locked: User | null, { passwordHash }: User, now: Date): boolean {
  return locked !== null && isUsable(locked, now) && locked.passwordHash === passwordHash;
}

/**
 * The current session of a checkout, created if it has none; null when it cannot be completed: another tab replaced the
 * checkout, its customer was retired or moved, or Stripe does not know the session or its customer.
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
    if (customer === null) return null;
    const isInvited = await isInvitationOpen(db, user.id);
    const session = await createSession(context, user, customer, checkout, isInvited);
    const noted = await inTransaction(db, now, async (tx) => {
      // Deleting the account and moving its customer take this lock too, and can close only the session that this row
      // has.
      const isUnchanged = isSameHolder(await lockUser(tx, user.id), user, tx.now);
      const where = { id: checkout.id };
      const { count } = isUnchanged
        ? await tx.checkout.updateMany({ where, data: { sessionId: session.id } })
        : await tx.checkout.deleteMany({ where });
      return isUnchanged ? count > 0 : 'account-changed';
    });
    if (noted === true) return session;
    // Another tab replaced the checkout meanwhile, or a stranger may hold this session: it must not be paid.
    if (!(await expire(stripe, session.id))) throw new CheckoutImpossible('payment-pending');
    if (noted === 'account-changed') throw new CheckoutImpossible(noted);
    return null;
  } catch (error) {
    // Stripe repeats its answer to an idempotency key, even an error, so the next attempt needs a new key.
    if (isStored(error)) {
      await inTransaction(db, now, async (tx) => {
        await tx.checkout.deleteMany({ where: { id: checkout.id, sessionId: null } });
      });
    }
    if (customer === null || !isCustomerGone(error)) throw error;
    await noteCustomerMissing(db, customer, now);
    return null;
  }
}

/**
 * Looks again when Stripe has seen an idempotency key before. Either the parameters were different: the address or the
 * invitation has changed since (then `sessionOf` has deleted the checkout, and the next attempt has a new key), or another
 * tab is moving a balance. Or Stripe is still working on another tab's request with the same key.
 * https://docs.stripe.com/api/idempotent_requests and https://docs.stripe.com/error-codes#idempotency-key-in-use
 */
async function whenKeyIsTaken(error: unknown): Promise<'key-taken'> {
  if (error instanceof Stripe.errors.StripeIdempotencyError) return 'key-taken';
  if (!(error instanceof Stripe.errors.StripeError) || error.code !== 'idempotency_key_in_use') throw error;
  await sleep(PAUSE_MS);
  return 'key-taken';
}

async function createSession(
  { stripe, publicUrl }: BillingContext,
  user: User,
  customer: string,
  { id, plan, priceId, trialDays }: Checkout,
  isInvited: boolean,
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
        metadata: { userId: user.id, plan, checkoutId: id },
        ...(trialDays > 0 && { trial_period_days: trialDays }),
      },
      ...(isInvited && { custom_text: { submit: { message: INVITATION } } }),
      success_url: `${publicUrl}/settings?checkout=done`,
      cancel_url: `${publicUrl}/pricing`,
    },
    // At most one session is created for a checkout. https://docs.stripe.com/api/idempotent_requests
    { idempotencyKey: `checkout-${id}` },
  );
}

/** Whether a subscription came from a checkout that another window has opened since, in place of this one. */
async function isOfNewerCheckout(
  db: Db,
  { id, userId }: Checkout,
  { metadata }: Stripe.Subscription,
): Promise<boolean> {
  const current = await db.checkout.findUnique({ where: { userId } });
  return current !== null && current.id !== id && metadata['checkoutId'] === current.id;
}

/**
 * Whether a session's customer may still be used (`isForCheckouts`). One that we do not know is left to Stripe.
 */
async function isCustomerUsable(db: Db, id: string | null): Promise<boolean> {
  const customer = id === null ? null : await db.customer.findUnique({ where: { id } });
  return customer === null || isForCheckouts(customer);
}

/** Whether a checkout session's subscription exists and is not over. */
export function isUnderWay(
  subscription: string | Stripe.Subscription | null,
): subscription is string | Stripe.Subscription {
  if (subscription === null) return false;
  return typeof subscription === 'string' || !isOver(subscription.status);
}

/** The products may have changed since: a subscription sold by our own checkout may no longer count. */
function isOurs(subscription: string | Stripe.Subscription, products: Products): boolean {
  return typeof subscription === 'string' || readSubscription(subscription, products).state.counts;
}

/** The missing object is the customer, and not, say, the price. */
function isCustomerGone(error: unknown): boolean {
  return (
    absenceOf(error) === 'gone' &&
    error instanceof Stripe.errors.StripeInvalidRequestError &&
    error.param === 'customer'
  );
}
