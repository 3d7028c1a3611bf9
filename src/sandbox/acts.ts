import {
  enterPromotionCode,
  payCheckout,
  retryPayment,
  settleCheckout,
  waitingSubscription,
} from './checkouts.ts';
import type { CheckoutOutcome } from './checkouts.ts';
import { setCard } from './customers.ts';
import { appealDispute, closeDispute, openDispute } from './disputes.ts';
import { causeAt } from './events.ts';
import type { Cause } from './events.ts';
import { cancelRefund, failRefund } from './refunds.ts';
import { Refusal } from './refusal.ts';
import type { Context } from './sandbox-context.ts';
import { runDue } from './schedule.ts';
import { leaveUnpaid } from './subscriptions.ts';
import { toEpoch } from './time.ts';
import type { Charge } from './types.ts';

/**
 * Actions of people, banks and time. Each one dates its events at the clock's current second, and throws a `Refusal`
 * with a one-sentence message when it is not possible. Only `advance` makes due things happen, and dates each at the
 * second it was due: call it after moving the clock.
 */
export interface Acts {
  /**
   * Attempts to pay for an open checkout.
   *
   * @param sessionId `cs_…`
   * @param how `outcome` is `paid` by default. `bank_debit` completes the session unpaid until `settleDebit`.
   *   With `incomplete` the bank asks for authentication: the subscription waits for `retryPayment` or another
   *   `pay`, and the session stays open. `percentOff` applies a promotion code to the first payment, in
   *   percent.
   * @returns `paid`: whether money moved or nothing was due. `subscription`: its id.
   */
  pay: (
    sessionId: string,
    how?: { outcome?: CheckoutOutcome; percentOff?: number },
  ) => { paid: boolean; subscription: string | null };
  /** Settles a completed session's bank debit. If it fails, it is retried by card, after pauses of 3, 5 and 7 days. */
  settleDebit: (sessionId: string, succeeded: boolean) => void;
  /**
   * Sets whether the customer's later charges succeed. A checkout can be paid either way. Publishes no event.
   */
  setCard: (customerId: string, behaviour: 'works' | 'declined') => void;
  /** Gives up collecting a past due subscription and leaves it unpaid. */
  markUnpaid: (subscriptionId: string) => void;
  /** Charges the open invoice of a past due, unpaid or incomplete subscription with the current card. */
  retryPayment: (subscriptionId: string) => void;
  /** Opens a dispute and returns its id. */
  openDispute: (chargeOrPaymentIntentId: string) => string;
  /** Decides a dispute. A lost one can still be won. */
  closeDispute: (id: string, outcome: 'won' | 'lost') => void;
  /** Appeals against a lost dispute; `closeDispute` decides the appeal. */
  appealDispute: (id: string) => void;
  /** Makes a successful refund fail. */
  failRefund: (id: string) => void;
  /** Cancels a refund. */
  cancelRefund: (id: string) => void;
  /**
   * Makes everything that is due by now happen, in order of time. Each event is dated at the second it was
   * due. Resolves when the events are published, which is before they are delivered.
   */
  advance: () => Promise<void>;
}

export function createActs(context: Context): Acts {
  const { state, now } = context;

  function cause(): Cause {
    return causeAt(toEpoch(now()));
  }

  return {
    pay(sessionId, { outcome = 'paid', percentOff } = {}) {
      const session = need(state.checkouts, sessionId, 'checkout');
      const order = need(state.orders, sessionId, 'checkout');
      const by = cause();
      if (session.status !== 'open' || by.at >= session.expires_at) {
        throw new Refusal(
          `Checkout ${sessionId} is ${session.status === 'open' ? 'expired' : session.status}, not open.`,
        );
      }
      const customer = session.customer === null ? undefined : state.customers.get(session.customer);
      if (customer !== undefined && 'deleted' in customer) {
        throw new Refusal(`The customer of checkout ${sessionId} was deleted.`);
      }
      if (percentOff !== undefined && !(percentOff > 0 && percentOff <= 100)) {
        throw new Refusal(`A promotion code takes more than 0 and at most 100% off, not ${percentOff}.`);
      }
      const waits = waitingSubscription(state, order) !== undefined;
      if (percentOff !== undefined && (order.percentOff > 0 || waits)) {
        throw new Refusal(`Checkout ${sessionId} no longer takes a promotion code.`);
      }
      const free = session.amount_total === 0 || percentOff === 100;
      if (free && outcome !== 'paid') {
        throw new Refusal(`Checkout ${sessionId} costs nothing today, so its outcome cannot be ${outcome}.`);
      }
      if (percentOff !== undefined) {
        enterPromotionCode(session, order, percentOff);
      }
      void context.publish(payCheckout(state, session, order, outcome, by) ?? []);
      return { paid: outcome === 'paid', subscription: session.subscription ?? order.incompleteSubscription };
    },

    settleDebit(sessionId, succeeded) {
      const session = need(state.checkouts, sessionId, 'checkout');
      void context.publish(settleCheckout(state, session, succeeded, cause()));
    },

    setCard(customerId, behaviour) {
      const customer = need(state.customers, customerId, 'customer');
      if ('deleted' in customer) {
        throw new Refusal(`Customer ${customerId} was deleted.`);
      }
      setCard(state, customerId, behaviour);
      context.save();
    },

    markUnpaid(subscriptionId) {
      const subscription = need(state.subscriptions, subscriptionId, 'subscription');
      void context.publish(leaveUnpaid(state, subscription, cause()));
    },

    retryPayment(subscriptionId) {
      const subscription = need(state.subscriptions, subscriptionId, 'subscription');
      void context.publish(retryPayment(state, subscription, cause()));
    },

    openDispute(id) {
      const intent = state.paymentIntents.get(id);
      const charge: Charge | undefined = state.charges.get(intent?.latest_charge ?? id);
      if (charge === undefined) {
        throw new Refusal(`${id} is neither a charge nor a payment intent that has one.`);
      }
      const { dispute, events } = openDispute(state, charge, cause());
      void context.publish(events);
      return dispute.id;
    },

    closeDispute(id, outcome) {
      void context.publish(closeDispute(need(state.disputes, id, 'dispute'), outcome, cause()));
    },

    appealDispute(id) {
      void context.publish(appealDispute(need(state.disputes, id, 'dispute'), cause()));
    },

    cancelRefund(id) {
      void context.publish(cancelRefund(state, need(state.refunds, id, 'refund'), cause()));
    },

    failRefund(id) {
      void context.publish(failRefund(state, need(state.refunds, id, 'refund'), cause()));
    },

    advance() {
      const events = runDue(state, toEpoch(now()));
      if (events.length > 0) {
        void context.publish(events);
      }
      return Promise.resolve();
    },
  };
}

function need<T>(things: ReadonlyMap<string, T>, id: string, noun: string): T {
  const thing = things.get(id);
  if (thing === undefined) {
    throw new Refusal(`There is no ${noun} ${id}.`);
  }
  return thing;
}
