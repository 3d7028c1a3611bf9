import type { Cause } from '../../audit.ts';
import type { Tx } from '../../db/transaction.ts';
import type { TieBreaker } from '../facts/subscriptions.ts';
import type { StripeEvent } from '../stripe-shapes/event.ts';
import type { Products } from '../stripe-shapes/subscription.ts';

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
  /** STRIPE_PRODUCTS. */
  products: Products;
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
 * @returns the cause of what they change
 */
export function causeOf(event: StripeEvent): Cause {
  return { id: event.id, actor: 'stripe' };
}
