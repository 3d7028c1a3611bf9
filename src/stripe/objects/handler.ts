import type { Cause } from '../../audit.ts';
import type { Wanted } from '../../db/load.ts';
import type { Programme, Unit } from '../../db/unit-of-work.ts';
import type { TieBreaker } from './subscription.ts';
import type { StripeEvent } from './event.ts';

/** What came of an event. */
export type HandlerOutcome = { status: 'ok' } | Ignored;

/** It changed nothing; why, for people. */
export interface Ignored {
  status: 'ignored';
  reason: string;
}

/** An event that was read: the ids that it names, and what it does. */
export interface ReadEvent {
  wants: Wanted;
  /**
   * Stores what it teaches and lets the consequences follow, all in the rows of the unit of work.
   *
   * @param tieBreaker Stripe's answer, when this is the second try after an UndecidedTie
   */
  apply: (tx: Unit, tieBreaker: TieBreaker | null) => HandlerOutcome;
}

/**
 * Reads an event of some types.
 *
 * @throws ZodError when its object fits no shape that we know
 */
export type EventHandler = (event: StripeEvent, programme: Programme) => ReadEvent | Ignored;

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
