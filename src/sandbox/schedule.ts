import { expireCheckout } from './checkouts.ts';
import { causeAt } from './events.ts';
import type { Cause } from './events.ts';
import { invoicesOf } from './invoices.ts';
import type { State } from './state.ts';
import {
  INCOMPLETE_LIFETIME,
  cancelNow,
  chargeInvoice,
  currentPeriodEnd,
  endTrial,
  expireIncomplete,
  renew,
} from './subscriptions.ts';
import type { CheckoutSession, Invoice, StripeEvent, Subscription } from './types.ts';

/** Something that happens automatically. */
export interface Due {
  /** Epoch seconds. */
  at: number;
  /** A main clause for people, such as "the plan renews". */
  what: string;
  happen: (cause: Cause) => StripeEvent[];
}

/**
 * Makes everything happen that is due: trials end, plans renew or end, payments are retried, and checkouts
 * and incomplete subscriptions expire.
 *
 * @param now epoch seconds, inclusive
 * @returns the events in order of time, each dated at the second it was due
 */
export function runDue(state: State, now: number): StripeEvent[] {
  const events: StripeEvent[] = [];
  // Each step can make other things due, so look again after each one.
  for (let next = nextDue(state); next !== undefined && next.at <= now; next = nextDue(state)) {
    events.push(...next.happen(causeAt(next.at)));
  }
  return events;
}

/** Returns what happens next to a subscription; undefined when nothing is due, because it has ended or is unpaid. */
export function nextOf(state: State, subscription: Subscription): Due | undefined {
  return first([
    ...invoicesOf(state, subscription).flatMap((one) => dueOfInvoice(state, one)),
    ...dueOfSubscription(state, subscription),
  ]);
}

function nextDue(state: State): Due | undefined {
  return first([
    // Invoices come first, because a payment due together with a renewal belongs to the previous period.
    ...[...state.invoices.values()].flatMap((one) => dueOfInvoice(state, one)),
    ...[...state.subscriptions.values()].flatMap((one) => dueOfSubscription(state, one)),
    ...[...state.checkouts.values()].flatMap((one) => dueOfCheckout(one)),
  ]);
}

/** The earliest; of two at the same second, the one that comes first in the list. */
function first(candidates: readonly Due[]): Due | undefined {
  let earliest: Due | undefined;
  for (const due of candidates) {
    if (earliest === undefined || due.at < earliest.at) {
      earliest = due;
    }
  }
  return earliest;
}

function dueOfInvoice(state: State, invoice: Invoice): Due[] {
  const at = invoice.automatically_finalizes_at ?? invoice.next_payment_attempt;
  const subscription = state.subscriptions.get(invoice.parent.subscription_details.subscription);
  const what = invoice.status === 'draft' ? 'the card is charged' : 'the payment is tried again';
  return at === null || subscription === undefined
    ? []
    : [{ at, what, happen: (cause) => chargeInvoice(state, subscription, invoice, cause) }];
}

function dueOfSubscription(state: State, subscription: Subscription): Due[] {
  switch (subscription.status) {
    case 'incomplete': {
      const at = subscription.created + INCOMPLETE_LIFETIME;
      const what = 'the unpaid plan expires';
      return [{ at, what, happen: (cause) => expireIncomplete(state, subscription, cause) }];
    }
    case 'trialing':
    case 'active':
    case 'past_due': {
      const [what, happens] = subscription.cancel_at_period_end
        ? (['the plan ends', cancelNow] as const)
        : subscription.status === 'trialing'
          ? (['the trial ends', endTrial] as const)
          : (['the plan renews', renew] as const);
      const at = currentPeriodEnd(subscription);
      return [{ at, what, happen: (cause) => happens(state, subscription, cause) }];
    }
    default:
      return [];
  }
}

function dueOfCheckout(session: CheckoutSession): Due[] {
  return session.status === 'open'
    ? [
        {
          at: session.expires_at,
          what: 'the checkout expires',
          happen: (cause) => expireCheckout(session, cause),
        },
      ]
    : [];
}
