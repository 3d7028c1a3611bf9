import { badRequest } from './errors.ts';
import { buildEvent } from './events.ts';
import type { Cause } from './events.ts';
import { formatMoney } from './money.ts';
import { buildRefund } from './payment-objects.ts';
import type { State } from './state.ts';
import type { Charge, Refund, StripeEvent } from './types.ts';

/**
 * Pays a charge back, all of it or a part: https://docs.stripe.com/api/refunds/create
 *
 * @param state what to change
 * @param charge what is paid back
 * @param given cents (all that is left when absent), and why
 * @param cause when, and who asked
 * @returns the refund, and the events
 * @throws 400, as Stripe does, when there is nothing to pay back, too little of it, or the bank disputes it
 */
export function refundCharge(
  state: State,
  charge: Charge,
  given: Pick<Refund, 'reason' | 'metadata'> & { amount?: number | undefined },
  cause: Cause,
): { refund: Refund; events: StripeEvent[] } {
  const left = charge.amount - charge.amount_refunded;
  const { amount = left, ...rest } = given;
  if (charge.status !== 'succeeded') {
    throw badRequest(`Charge ${charge.id} was not paid, so it cannot be refunded.`, undefined, 'charge');
  }
  if (charge.refunded) {
    throw badRequest(`Charge ${charge.id} has already been refunded.`, 'charge_already_refunded');
  }
  if (charge.disputed) {
    throw badRequest(`Charge ${charge.id} has been charged back; cannot issue a refund.`, 'charge_disputed');
  }
  if (amount > left) {
    const [asked, most] = [amount, left].map((cents) => formatMoney(cents, charge.currency));
    throw badRequest(
      `Refund amount (${asked ?? ''}) is greater than unrefunded amount on charge (${most ?? ''})`,
      undefined,
      'amount',
    );
  }
  const refund = buildRefund(cause.at, charge, { ...rest, amount });
  state.refunds.set(refund.id, refund);
  charge.amount_refunded += amount;
  charge.refunded = charge.amount_refunded === charge.amount;
  return {
    refund,
    events: [buildEvent(cause, 'charge.refunded', charge), buildEvent(cause, 'refund.created', refund)],
  };
}

/**
 * Calls a refund off; the money is the seller's again. Stripe tells it by an update alone.
 * See https://docs.stripe.com/refunds#cancel-refund
 *
 * @param state what to change
 * @param refund one that went through
 * @param cause when
 * @returns the events
 * @throws Error when its money came back already
 */
export function cancelRefund(state: State, refund: Refund, cause: Cause): StripeEvent[] {
  const before = takeBack(state, refund, 'canceled');
  return [
    buildEvent(cause, 'refund.updated', refund, before),
    buildEvent(cause, 'charge.refund.updated', refund, before),
  ];
}

/**
 * Lets the buyer's bank send a refund back; the money is the seller's again.
 * See https://docs.stripe.com/refunds#failed-refunds
 *
 * @param state what to change
 * @param refund one that went through
 * @param cause when
 * @returns the events
 * @throws Error when it has failed already
 */
export function failRefund(state: State, refund: Refund, cause: Cause): StripeEvent[] {
  const before = takeBack(state, refund, 'failed');
  refund.failure_reason = 'lost_or_stolen_card';
  return [buildEvent(cause, 'refund.updated', refund, before), buildEvent(cause, 'refund.failed', refund)];
}

/** The refund as it was before. */
function takeBack(state: State, refund: Refund, status: 'failed' | 'canceled'): Refund {
  const charge = state.charges.get(refund.charge);
  if (refund.status !== 'succeeded' || charge === undefined) {
    throw new Error(
      `Refund ${refund.id} has ${refund.status === 'failed' ? 'failed' : 'been canceled'} already.`,
    );
  }
  const before = structuredClone(refund);
  refund.status = status;
  charge.amount_refunded -= refund.amount;
  charge.refunded = false;
  return before;
}
