import { badRequest } from './api-error.ts';
import { buildEvent } from './events.ts';
import type { Cause } from './events.ts';
import { formatMoney } from './money.ts';
import { buildRefund } from './payment-objects.ts';
import { Refusal } from './refusal.ts';
import type { State } from './state.ts';
import type { Charge, Refund, StripeEvent } from './types.ts';

/**
 * Refunds a charge, fully or in part: https://docs.stripe.com/api/refunds/create
 *
 * @param asked cents; everything that is left by default
 * @throws 400, as Stripe does, when nothing was paid, too little is left, or the charge is disputed
 */
export function refundCharge(
  state: State,
  charge: Charge,
  asked: number | undefined,
  cause: Cause,
): { refund: Refund; events: StripeEvent[] } {
  const left = charge.amount - charge.amount_refunded;
  const amount = asked ?? left;
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
    throw badRequest(
      `Refund amount (${formatMoney(amount, charge.currency)}) is greater than unrefunded amount on charge ` +
        `(${formatMoney(left, charge.currency)})`,
      undefined,
      'amount',
    );
  }
  const refund = buildRefund(cause.at, charge, amount);
  state.refunds.set(refund.id, refund);
  charge.amount_refunded += amount;
  charge.refunded = charge.amount_refunded === charge.amount;
  return {
    refund,
    events: [buildEvent(cause, 'charge.refunded', charge), buildEvent(cause, 'refund.created', refund)],
  };
}

/**
 * Cancels a refund: the seller gets the money back. Stripe reports this only as an update. See
 * https://docs.stripe.com/refunds#cancel-refund
 *
 * @throws Refusal when the refund has already failed or been canceled
 */
export function cancelRefund(state: State, refund: Refund, cause: Cause): StripeEvent[] {
  const before = takeBack(state, refund, 'canceled');
  return [
    buildEvent(cause, 'refund.updated', refund, before),
    buildEvent(cause, 'charge.refund.updated', refund, before),
  ];
}

/**
 * Makes a refund fail: the seller gets the money back. See https://docs.stripe.com/refunds#failed-refunds
 *
 * @throws Refusal when the refund has already failed or been canceled
 */
export function failRefund(state: State, refund: Refund, cause: Cause): StripeEvent[] {
  const before = takeBack(state, refund, 'failed');
  refund.failure_reason = 'lost_or_stolen_card';
  return [buildEvent(cause, 'refund.updated', refund, before), buildEvent(cause, 'refund.failed', refund)];
}

/** Returns a copy of the refund as it was before the change. */
function takeBack(state: State, refund: Refund, status: 'failed' | 'canceled'): Refund {
  const charge = state.charges.get(refund.charge);
  if (refund.status !== 'succeeded' || charge === undefined) {
    throw new Refusal(
      `Refund ${refund.id} has already ${refund.status === 'failed' ? 'failed' : 'been canceled'}.`,
    );
  }
  const before = structuredClone(refund);
  refund.status = status;
  charge.amount_refunded -= refund.amount;
  charge.refunded = false;
  return before;
}
