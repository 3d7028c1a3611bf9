import type { Cause } from '../../audit.ts';
import type { Wanted } from '../../db/load.ts';
import type { Unit } from '../../db/unit-of-work.ts';
import type { Programme } from '../../programme.ts';
import type { StripeEvent } from './event.ts';
import type { TieBreaker } from './snapshot-order.ts';

export type HandlerOutcome = { status: 'ok' } | Ignored;

/**
 * The event changed no tier, credit or referral; a stale snapshot may still correct the time at which its subscription
 * last started or stopped giving a paid tier (`PaidTime`). The `events` command and Stripe's dashboard show `reason`.
 */
export interface Ignored {
  status: 'ignored';
  reason: string;
}

/** An event that was read: the ids it names, and what it does. */
export interface ReadEvent {
  /** The rows that `apply` needs. A new row may be missing from the unit of work; `apply` then creates it (`ensure…`). */
  wants: Wanted;
  /**
   * Stores the event's facts and applies their consequences to the rows of the unit of work.
   *
   * @param tieBreaker Stripe's answer, on the second attempt after an UndecidedTie; else null
   */
  apply: (tx: Unit, tieBreaker: TieBreaker | null) => HandlerOutcome;
}

/**
 * Reads an event.
 *
 * @throws ZodError when the event's object has an unknown shape
 */
export type EventHandler = (event: StripeEvent, programme: Programme) => ReadEvent | Ignored;

export const OK: HandlerOutcome = { status: 'ok' };

export function ignored(reason: string): Ignored {
  return { status: 'ignored', reason };
}

export function causeOf(event: StripeEvent): Cause {
  return { id: event.id, actor: 'stripe' };
}
