import { isoText } from '../../instants.ts';

/** Something that Stripe says otherwise than our rows. */
export interface Difference {
  /** What kind of thing: event, checkout session, subscription, invoice, payment or dispute. */
  object: string;
  /** Stripe's id of it. */
  id: string;
  field: string;
  here: string;
  there: string;
  /** Our rows say the same now. */
  mended: boolean;
  /** Why mending failed, if it did. */
  problem: string | null;
}

/** Told as the work goes on. */
export interface Progress {
  /** What is being looked at: events, subscriptions, … */
  stage: string;
  /** How many of them so far. */
  done: number;
  /** Of how many; null while Stripe does not say. */
  total: number | null;
}

/** What a run found. */
export interface ReconcileReport {
  /** From when on Stripe's event list was read, UTC. */
  since: Date;
  dryRun: boolean;
  /** Events that Stripe told of, and of these the ones that we had missed or failed at. */
  events: { seen: number; missing: number; failed: number };
  /** How many objects were compared. */
  compared: number;
  differences: Difference[];
}

/**
 * @param value a field of one of our rows, or what Stripe says it should be
 * @returns it in words; instants in ISO 8601, UTC
 */
export function inWords(value: unknown): string {
  if (value === null || value === undefined) return 'none';
  if (value instanceof Date) return isoText(value);
  return JSON.stringify(value).replaceAll('"', '');
}
