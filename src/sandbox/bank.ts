import { setCard } from './customers.ts';
import { canBecome, closeDispute, openDispute } from './disputes.ts';
import type { Cause } from './events.ts';
import { newestFirst } from './lists.ts';
import { refundCharge } from './refunds.ts';
import type { CardBehaviour, State } from './state.ts';
import { cardOf } from './subscriptions.ts';
import type { Charge, Dispute, StripeEvent } from './types.ts';

/** Something the bank or the seller can do to a customer, with its button label. */
export interface BankAct {
  action: string;
  label: string;
  /** Changes the state and returns the events. */
  act: (cause: Cause) => StripeEvent[];
}

/** Returns the acts that are possible now. */
export function bankActs(state: State, customer: string): BankAct[] {
  const charge = lastPayment(state, customer);
  const dispute = lastDispute(state, customer);
  const acts: BankAct[] = [];
  const known = state.customers.get(customer);
  if (known !== undefined && !('deleted' in known)) {
    const works = cardOf(state, customer) === 'works';
    acts.push(
      works
        ? cardAct('card_declined', 'Decline the card from now on', 'declined')
        : cardAct('card_works', 'Let the card work again', 'works'),
    );
  }
  if (charge !== undefined && !charge.refunded && !charge.disputed) {
    acts.push({
      action: 'refund_last',
      label: 'Refund the last payment',
      act: (cause) => refundCharge(state, charge, undefined, cause).events,
    });
  }
  if (charge !== undefined && !charge.disputed) {
    acts.push({
      action: 'dispute_open',
      label: 'Open a dispute on the last payment',
      act: (cause) => openDispute(state, charge, cause).events,
    });
  }
  for (const outcome of ['lost', 'won'] as const) {
    if (dispute !== undefined && canBecome(dispute, outcome)) {
      const side = outcome === 'won' ? 'the money stays here' : 'the money goes back';
      acts.push({
        action: `dispute_${outcome}`,
        label: `Let the dispute be ${outcome}: ${side}`,
        act: (cause) => closeDispute(dispute, outcome, cause),
      });
    }
  }
  return acts;

  function cardAct(action: string, label: string, behaviour: CardBehaviour): BankAct {
    return {
      action,
      label,
      act: () => {
        setCard(state, customer, behaviour);
        return [];
      },
    };
  }
}

/** Returns the customer's newest successful charge. */
export function lastPayment(state: State, customer: string): Charge | undefined {
  return newestFirst(state.charges.values()).find(
    (one) => one.customer === customer && one.status === 'succeeded',
  );
}

/** Returns the newest dispute of one of the customer's charges. */
export function lastDispute(state: State, customer: string): Dispute | undefined {
  return newestFirst(state.disputes.values()).find(
    (one) => state.charges.get(one.charge)?.customer === customer,
  );
}
