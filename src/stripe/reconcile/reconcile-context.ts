import type { Stripe } from 'stripe';

import type { Db } from '../../db/transaction.ts';
import type { EventContext } from '../handle-event.ts';
import type { Difference, Progress } from './report.ts';

export interface ReconcileContext {
  db: Db;
  stripe: Stripe;
  events: EventContext;
  /** The clock: each transaction takes its own `now`. */
  now: () => Date;
  /**
   * Compare only objects created since then, UTC; null for all. Customers, and subscriptions that have not ended, are
   * always compared, and open checkouts only while they are less than a day old.
   */
  since: Date | null;
  /** Report differences without fixing them. */
  dryRun: boolean;
  progress: (progress: Progress) => void;
}

/** Compares one kind of object and fixes the differences. */
export type Comparison = (
  context: ReconcileContext,
) => Promise<{ compared: number; differences: Difference[] }>;
