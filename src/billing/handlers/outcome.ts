import type { Tx } from '../../db/transaction.ts';
import type { TierCause } from '../grant-paid.ts';
import type { TieBreaker } from '../facts/subscriptions.ts';
import type { StripeEvent } from '../stripe-shapes/event.ts';

/** What came of an event. */
export type HandlerOutcome = { status: 'ok' } | Ignored;

/** It changed nothing; why, for people. */
export interface Ignored {
  status: 'ignored';
  reason: string;
}

/** What handlers are told besides the event. */
export interface HandlerContext {
  /** Stripe's answer, when this is the second try after an UndecidedTie. */
  tieBreaker: TieBreaker | null;
  /** REFERRAL_CLAWBACK_DAYS. */
  clawbackDays: number;
}

/** Applies one event inside the open transaction. What it throws rolls everything back. */
export type EventHandler = (tx: Tx, event: StripeEvent, context: HandlerContext) => Promise<HandlerOutcome>;

export const OK: HandlerOutcome = { status: 'ok' };

/**
 * @param reason why the event changes nothing, for people
 * @returns the outcome that says so
 */
export function ignored(reason: string): Ignored {
  return { status: 'ignored', reason };
}

/**
 * @param event the event that brings new facts
 * @param endedAt when the subscription it speaks of ended, if it says so
 * @returns the cause to change a tier with
 */
export function causeOf(event: StripeEvent, endedAt: Date | null = null): TierCause {
  return { id: event.id, actor: 'stripe', endedAt: endedAt ?? event.created };
}
