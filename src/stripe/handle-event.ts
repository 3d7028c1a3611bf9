import type { Stripe } from 'stripe';

import { modeOfKey } from '../config.ts';
import type { Config, KeyMode } from '../config.ts';
import { isBusyOrUnreachable, isUnreachable } from '../db/transaction.ts';
import type { Db } from '../db/transaction.ts';
import { secondsBetween } from '../instants.ts';
import { eventHandling, eventLag, events } from '../metrics.ts';
import { programmeOf } from '../programme.ts';
import type { Programme } from '../programme.ts';
import { remember } from '../remember.ts';
import { describeError } from './describe-error.ts';
import { isDuplicate, recordFailure } from './event-ledger.ts';
import { openInbox, RecordedFailure } from './inbox.ts';
import type { Inbox } from './inbox.ts';
import { onChargeRefunded } from './objects/charge.ts';
import { onCheckoutCompleted } from './objects/checkout-session.ts';
import { onCustomerDeleted, onCustomerUpdated } from './objects/customer.ts';
import { onDisputeChanged } from './objects/dispute.ts';
import type { StripeEvent } from './objects/event.ts';
import { ignored } from './objects/handler.ts';
import type { EventHandler, HandlerOutcome, Ignored } from './objects/handler.ts';
import { onInvoicePaymentPaid } from './objects/invoice-payment.ts';
import { onInvoicePaid, onInvoiceUnpaid } from './objects/invoice.ts';
import { onRefundChanged } from './objects/refund.ts';
import type { TieBreaker } from './objects/snapshot-order.ts';
import { readSubscription } from './objects/subscription-shape.ts';
import { onSubscriptionChanged } from './objects/subscription.ts';

export const HANDLERS: ReadonlyMap<string, EventHandler> = new Map([
  ['customer.subscription.created', onSubscriptionChanged],
  ['customer.subscription.updated', onSubscriptionChanged],
  ['customer.subscription.deleted', onSubscriptionChanged],
  ['customer.subscription.paused', onSubscriptionChanged],
  ['customer.subscription.resumed', onSubscriptionChanged],
  ['checkout.session.completed', onCheckoutCompleted],
  ['checkout.session.async_payment_succeeded', onCheckoutCompleted],
  ['checkout.session.async_payment_failed', onCheckoutCompleted],
  ['invoice.paid', onInvoicePaid],
  ['invoice.payment_failed', onInvoiceUnpaid],
  ['invoice.payment_action_required', onInvoiceUnpaid],
  ['invoice_payment.paid', onInvoicePaymentPaid],
  ['charge.refunded', onChargeRefunded],
  ['charge.refund.updated', onRefundChanged],
  ['refund.updated', onRefundChanged],
  ['refund.failed', onRefundChanged],
  ['charge.dispute.created', onDisputeChanged],
  ['charge.dispute.updated', onDisputeChanged],
  ['charge.dispute.closed', onDisputeChanged],
  ['customer.updated', onCustomerUpdated],
  ['customer.deleted', onCustomerDeleted],
]);

/** The event types that have a handler. */
export const HANDLED_TYPES: readonly string[] = [...HANDLERS.keys()];

/** How long Stripe may take to break a tie, ms (design: rule 7). */
const TIE_TIMEOUT_MS = 2_000;

export type EventOutcome = HandlerOutcome | { status: 'duplicate' };

export interface EventContext {
  db: Db;
  /** Null when no key is configured. */
  stripe: Stripe | null;
  /** The mode of our key; null when there is none. */
  mode: KeyMode | null;
  programme: Programme;
  /** Handles an event in one transaction together with others that are waiting. */
  inbox: Inbox;
  /** Ids of recently handled events: only for these is it worth asking whether they are duplicates. */
  seen: Map<string, true>;
}

/** How many recent ids are kept. Stripe mostly repeats an event within minutes. */
const SEEN = 10_000;

export function eventContextOf(parts: { db: Db; stripe: Stripe | null; config: Config }): EventContext {
  const { db, stripe, config } = parts;
  const programme = programmeOf(config);
  return {
    db,
    stripe,
    mode: modeOfKey(config.stripe.apiKey),
    programme,
    inbox: openInbox(db, programme),
    seen: new Map(),
  };
}

/**
 * Applies one verified event exactly once: claim, facts, tier, audit, referral and credit in one transaction. On
 * failure nothing is kept but the event's own `failed` row (design: rules 1 and 10).
 *
 * @param payload the body as received
 * @returns the outcome, already committed
 * @throws whatever made the event fail. It is recorded as failed, unless `isBusyOrUnreachable`. An AggregateError when it could
 *   not be recorded either.
 */
export async function handleEvent(
  context: EventContext,
  event: StripeEvent,
  payload: string,
  now: Date,
): Promise<EventOutcome> {
  const type = HANDLERS.has(event.type) ? event.type : 'other';
  const stopTimer = eventHandling.startTimer();
  const count = (outcome: string): void => {
    events.inc({ type, outcome });
    stopTimer({ outcome });
  };
  try {
    const outcome = await applyOrRecord(context, event, payload, now);
    count(outcome.status === 'ok' ? 'applied' : outcome.status);
    // Stripe's clock and ours differ a little. For a duplicate, the lag was measured the first time.
    if (outcome.status !== 'duplicate') eventLag.observe(Math.max(0, secondsBetween(event.created, now)));
    return outcome;
  } catch (error) {
    count(isUnreachable(error) ? 'unreachable' : isBusyOrUnreachable(error) ? 'busy' : 'failed');
    throw error;
  }
}

async function applyOrRecord(
  context: EventContext,
  event: StripeEvent,
  payload: string,
  now: Date,
): Promise<EventOutcome> {
  try {
    return await applyOnce(context, event, payload, now);
  } catch (error) {
    // The event itself did not fail; Stripe retries it.
    if (isBusyOrUnreachable(error)) throw error;
    if (error instanceof RecordedFailure) throw error.cause;
    await recordFailure(context.db, event, payload, describeError(error), now).catch((second: unknown) => {
      throw new AggregateError(
        [error, second],
        `The event ${event.id} failed, and the failure could not be recorded.`,
      );
    });
    throw error;
  }
}

async function applyOnce(
  context: EventContext,
  event: StripeEvent,
  payload: string,
  now: Date,
): Promise<EventOutcome> {
  const { db, mode, programme, seen } = context;
  // Only a hint: other duplicates are found by the claim.
  if (seen.has(event.id) && (await isDuplicate(db, event.id))) return { status: 'duplicate' };
  if (event.malformed) throw event.malformed;
  const handler = HANDLERS.get(event.type);
  const read = notForUs(mode, event) ?? (handler ? handler(event, programme) : unused(event));
  const outcome = await context.inbox({ event, payload, now, read, tieBreaker: null });
  remember(seen, event.id, true, SEEN);
  if ('status' in outcome) return outcome;
  const tieBreaker = await fetchTieBreaker(context, outcome.tieOf);
  const second = await context.inbox({ event, payload, now, read, tieBreaker });
  if ('status' in second) return second;
  throw new Error(`The tie of two snapshots of the subscription ${outcome.tieOf} could not be broken.`);
}

function notForUs(mode: KeyMode | null, event: StripeEvent): Ignored | null {
  // Only events of connected accounts name an account. https://docs.stripe.com/connect/webhooks
  if (event.account !== null) return ignored(`an event of the connected account ${event.account}`);
  if (mode === null || event.livemode === null || event.livemode === (mode === 'live')) return null;
  return ignored(mode === 'live' ? 'a test event on a live server' : 'a live event on a test server');
}

function unused({ type }: StripeEvent): Ignored {
  return ignored(`events of the type ${type} are not used`);
}

async function fetchTieBreaker(
  { stripe, programme }: EventContext,
  subscriptionId: string,
): Promise<TieBreaker> {
  if (!stripe) return 'unavailable';
  try {
    const options = { timeout: TIE_TIMEOUT_MS, maxNetworkRetries: 0 };
    return readSubscription(
      await stripe.subscriptions.retrieve(subscriptionId, {}, options),
      programme.products,
    );
  } catch {
    // Then the last snapshot received wins, and the row is marked for `reconcile`.
    return 'unavailable';
  }
}
