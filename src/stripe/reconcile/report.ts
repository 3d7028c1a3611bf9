import { isoText } from '../../instants.ts';

/** A difference between Stripe and our rows. */
export interface Difference {
  /** The kind of object: event, checkout session, customer, subscription, invoice, payment or dispute. */
  object: string;
  /** Stripe's id. */
  id: string;
  field: string;
  here: string;
  there: string;
  /** Our rows now agree with Stripe. */
  fixed: boolean;
  /** Why fixing it failed; null if it did not. */
  problem: string | null;
}

export interface Progress {
  /** What is being compared: events, subscriptions, … */
  stage: string;
  done: number;
  /** Null when Stripe does not say. */
  total: number | null;
}

export interface ReconcileReport {
  /** The start of the event list that was read, UTC. */
  since: Date;
  dryRun: boolean;
  /**
   * `seen`: events that Stripe listed. `missing`: those that never arrived or had failed before. `failed`: those of
   * `missing` that failed in this run.
   */
  events: { seen: number; missing: number; failed: number };
  /** How many objects were compared, not counting the subscriptions that were fetched one by one. */
  compared: number;
  differences: Difference[];
}

/** A value as text; instants in ISO 8601, UTC. */
export function formatValue(value: unknown): string {
  if (value === null || value === undefined) return 'none';
  if (value instanceof Date) return isoText(value);
  return JSON.stringify(value).replaceAll('"', '');
}
