import { Counter, Gauge, Histogram, Registry } from 'prom-client';

/**
 * The metrics of this process, for `GET /metrics`. Labels have few, fixed values: no ids and nothing personal.
 * Account changes are counted after the commit (`tx.afterCommit`), so that only what happened is counted. Names:
 * https://prometheus.io/docs/practices/naming/
 */
export const registry = new Registry();

const registers = [registry];

/** Seconds. A transaction may wait for 10 s and then run for 10 s. */
const HANDLING_BUCKETS = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20];

/** Seconds, up to a week: Stripe retries a failed event for three days, and it can be resent by hand later. */
const LAG_BUCKETS = [
  1,
  2,
  5,
  15,
  60,
  300,
  900,
  3600,
  4 * 3600,
  12 * 3600,
  86_400,
  2 * 86_400,
  3 * 86_400,
  7 * 86_400,
];

export const events = new Counter({
  name: 'tandem_events_total',
  help: 'Stripe events by type and outcome. Types that Tandem does not use count as "other", requests refused for overload as "unknown".',
  labelNames: ['type', 'outcome'],
  registers,
});

export const eventHandling = new Histogram({
  name: 'tandem_event_handling_seconds',
  help: 'Time to handle an event, until its transaction ended.',
  labelNames: ['outcome'],
  buckets: HANDLING_BUCKETS,
  registers,
});

export const eventLag = new Histogram({
  name: 'tandem_event_lag_seconds',
  help: 'Time from an event at Stripe until it reached us, for events that were handled.',
  buckets: LAG_BUCKETS,
  registers,
});

export const transactionRetries = new Counter({
  name: 'tandem_transaction_retries_total',
  help: 'Retried transactions, by Prisma error code.',
  labelNames: ['code'],
  registers,
});

export const transactionsGivenUp = new Counter({
  name: 'tandem_transactions_given_up_total',
  help: 'Transactions given up because the database was busy or unreachable, by Prisma error code.',
  labelNames: ['code'],
  registers,
});

export const conversions = new Counter({
  name: 'tandem_conversions_total',
  help: 'Referrals that paid out.',
  registers,
});

export const reversals = new Counter({
  name: 'tandem_reversals_total',
  help: 'Conversions that were reversed.',
  registers,
});

export const restorations = new Counter({
  name: 'tandem_restorations_total',
  help: 'Reversed conversions that were restored.',
  registers,
});

export const creditDaysGranted = new Counter({
  name: 'tandem_credit_days_granted_total',
  help: 'Days of credit granted, to both sides of conversions together. Restorations are not grants.',
  registers,
});

export const outboxQueued = new Counter({
  name: 'tandem_outbox_queued_total',
  help: 'Emails, and changes at Stripe, that were queued.',
  registers,
});

export const outboxTries = new Counter({
  name: 'tandem_outbox_tries_total',
  help: 'Attempts to send an email or change something at Stripe, by kind and outcome: done, dropped (no longer needed or allowed), again (to be retried), waits (not tried: another email must end first), failed (given up).',
  labelNames: ['kind', 'outcome'],
  registers,
});

export const outboxItems = new Gauge({
  name: 'tandem_outbox_items',
  help: 'Emails and changes at Stripe that wait, or that failed and are kept for an operator.',
  labelNames: ['status'],
  registers,
});

export const outboxOldest = new Gauge({
  name: 'tandem_outbox_oldest_seconds',
  help: 'How long the oldest email or change at Stripe has waited; 0 when none waits.',
  registers,
});
