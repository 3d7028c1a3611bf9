import { buildEvent } from './events.ts';
import type { Cause } from './events.ts';
import { buildDispute } from './payment-objects.ts';
import type { State } from './state.ts';
import type { Charge, Dispute, StripeEvent } from './types.ts';

/**
 * Lets the buyer's bank ask a charge back: https://docs.stripe.com/disputes/how-disputes-work
 *
 * @param state what to change
 * @param charge a charge
 * @param cause when
 * @returns the dispute, and the event
 * @throws Error when the charge was not paid or is disputed already
 */
export function openDispute(
  state: State,
  charge: Charge,
  cause: Cause,
): { dispute: Dispute; events: StripeEvent[] } {
  if (charge.status !== 'succeeded' || charge.disputed) {
    const why = charge.disputed ? 'is disputed already' : 'was not paid, so nobody can dispute it';
    throw new Error(`Charge ${charge.id} ${why}.`);
  }
  const dispute = buildDispute(cause.at, charge);
  state.disputes.set(dispute.id, dispute);
  charge.disputed = true;
  return { dispute, events: [buildEvent(cause, 'charge.dispute.created', dispute)] };
}

/**
 * Decides a dispute. One that was lost can still be won, by an appeal or if the bank changes its mind; that is no closing.
 *
 * @param dispute the dispute
 * @param outcome who gets the money: `won` is the seller
 * @param cause when, and who asked
 * @returns the event
 * @throws Error when it was decided before, unless it turns from lost to won
 */
export function closeDispute(dispute: Dispute, outcome: 'won' | 'lost', cause: Cause): StripeEvent[] {
  if (!canBecome(dispute, outcome)) {
    throw new Error(`Dispute ${dispute.id} is ${dispute.status} already.`);
  }
  const before = structuredClone(dispute);
  dispute.status = outcome;
  dispute.evidence_details.due_by = null;
  return before.status === 'lost' || before.status === 'appeal_under_review'
    ? [buildEvent(cause, 'charge.dispute.updated', dispute, before)]
    : [buildEvent(cause, 'charge.dispute.closed', dispute)];
}

/**
 * Appeals against a dispute that was lost.
 *
 * @param dispute the dispute
 * @param cause when
 * @returns the event
 * @throws Error when it is not lost
 */
export function appealDispute(dispute: Dispute, cause: Cause): StripeEvent[] {
  if (dispute.status !== 'lost') {
    throw new Error(`Dispute ${dispute.id} is ${dispute.status}, not lost.`);
  }
  const before = structuredClone(dispute);
  dispute.status = 'appeal_under_review';
  return [buildEvent(cause, 'charge.dispute.updated', dispute, before)];
}

/**
 * @param dispute any dispute
 * @param outcome a decision
 * @returns whether it can still be decided so
 */
export function canBecome(dispute: Dispute, outcome: 'won' | 'lost'): boolean {
  const { status } = dispute;
  return (
    status === 'needs_response' ||
    status === 'appeal_under_review' ||
    (status === 'lost' && outcome === 'won')
  );
}
