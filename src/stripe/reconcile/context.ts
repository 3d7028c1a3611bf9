import type { Stripe } from 'stripe';

import type { Db } from '../../db/transaction.ts';
import type { EventContext } from '../handle-event.ts';
import type { Difference, Progress } from './report.ts';

/** What every part of a run gets. */
export interface ReconcileContext {
  db: Db;
  stripe: Stripe;
  /** What events are handled with. */
  events: EventContext;
  /** The clock: each transaction has a `now` of its own. */
  now: () => Date;
  /** Objects that were made before are left out, UTC; null: all are compared. */
  since: Date | null;
  /** Only tell what differs. */
  dryRun: boolean;
  progress: (progress: Progress) => void;
}

/** Compares one kind of object, and mends what differs; how many were compared, and what differed. */
export type Comparison = (
  context: ReconcileContext,
) => Promise<{ compared: number; differences: Difference[] }>;
