import { buildEvent } from './events.ts';
import type { Cause } from './events.ts';
import { buildDispute } from './payment-objects.ts';
import { Refusal } from './refusal.ts';
import type { State } from './state.ts';
import type { Charge, Dispute, StripeEvent } from './types.ts';

/**
 * Opens a dispute on a charge: https://docs.stripe.com/disputes/how-disputes-work
 *
 * @throws Refusal when the charge was not paid or is already disputed
 */
export function openDispute(
  state: State,
  charge: Charge,
  cause: Cause,
): { dispute: Dispute; events: StripeEvent[] } {
  if (charge.status !== 'succeeded' || charge.disputed) {
    const why = charge.disputed ? 'is already disputed' : 'was not paid, so nobody can dispute it';
    throw new Refusal(`Charge ${charge.id} ${why}.`);
  }
  const dispute = buildDispute(cause.at, charge);
  state.disputes.set(dispute.id, dispute);
  charge.disputed = true;
  return { dispute, events: [buildEvent(cause, 'charge.dispute.created', dispute)] };
}

/**
 * Decides a dispute. A lost one can still be won, by an appeal or because the bank changes its mind. Stripe
 * reports that as an update.
 *
 * @param outcome `won` means that the seller keeps the money
 * @throws Refusal when it was decided before, unless it goes from lost to won
 */
export function closeDispute(dispute: Dispute, outcome: 'won' | 'lost', cause: Cause): StripeEvent[] {
  if (!canBecome(dispute, outcome)) {
    throw new Refusal(`Dispute ${dispute.id} is already ${dispute.status}.`);
  }
  const before = structuredClone(dispute);
  dispute.status = outcome;
  dispute.evidence_details.due_by = null;
  return before.status === 'lost' || before.status === 'appeal_under_review'
    ? [buildEvent(cause, 'charge.dispute.updated', dispute, before)]
    : [buildEvent(cause, 'charge.dispute.closed', dispute)];
}

/**
 * Appeals against a lost dispute.
 *
 * @throws Refusal when it is not lost
 */
export function appealDispute(dispute: Dispute, cause: Cause): StripeEvent[] {
  if (dispute.status !== 'lost') {
    throw new Refusal(`Dispute ${dispute.id} is ${dispute.status}, not lost.`);
  }
  const before = structuredClone(dispute);
  dispute.status = 'appeal_under_review';
  return [buildEvent(cause, 'charge.dispute.updated', dispute, before)];
}

/** Whether a dispute can still end this way. */
export function canBecome(dispute: Dispute, outcome: 'won' | 'lost'): boolean {
  const { status } = dispute;
  return (
    status === 'needs_response' ||
    status === 'appeal_under_review' ||
    (status === 'lost' && outcome === 'won')
  );
}
