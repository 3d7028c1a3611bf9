import { Counter, Gauge, Histogram, Registry } from 'prom-client';

/**
 * What this process counts, for `GET /metrics`. Every label has few values, all known beforehand: no ids, nothing of a
 * person. What is counted about accounts is counted after the commit (`tx.afterCommit`), so that it happened.
 * Names: https://prometheus.io/docs/practices/naming/
 */
export const registry = new Registry();

const registers = [registry];

/** Up to what a transaction may wait for its turn and then run, twice: seconds. */
const HANDLING_BUCKETS = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20];

/** Seconds, from one to a week: Stripe sends a failed event again for three days, and `reconcile` looks back further. */
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
  help: 'Stripe events, by their type and what came of them. A type that changes nothing counts as "other".',
  labelNames: ['type', 'outcome'],
  registers,
});

export const eventHandling = new Histogram({
  name: 'tandem_event_handling_seconds',
  help: 'How long it took to handle an event, until its transaction had ended.',
  labelNames: ['outcome'],
  buckets: HANDLING_BUCKETS,
  registers,
});

export const eventLag = new Histogram({
  name: 'tandem_event_lag_seconds',
  help: 'How long after it happened at Stripe an event was applied or ignored.',
  buckets: LAG_BUCKETS,
  registers,
});

export const transactionRetries = new Counter({
  name: 'tandem_transaction_retries_total',
  help: "Transactions that were tried again, by Prisma's code of why.",
  labelNames: ['code'],
  registers,
});

export const transactionsGivenUp = new Counter({
  name: 'tandem_transactions_given_up_total',
  help: "Transactions that were given up, because the database was busy or could not be reached, by Prisma's code of why.",
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
  help: 'Conversions whose credit was taken back.',
  registers,
});

export const restorations = new Counter({
  name: 'tandem_restorations_total',
  help: 'Reversed conversions whose credit was given back.',
  registers,
});

export const creditDaysGranted = new Counter({
  name: 'tandem_credit_days_granted_total',
  help: 'Days of credit granted, to both sides of conversions together. Restorations are not grants.',
  registers,
});

export const outboxQueued = new Counter({
  name: 'tandem_outbox_queued_total',
  help: 'Mails, and changes at Stripe, that were queued.',
  registers,
});

export const outboxTries = new Counter({
  name: 'tandem_outbox_tries_total',
  help: 'Tries to send a mail or to change something at Stripe, by kind and by what came of them: done, dropped because it was no longer true, to be tried again, or failed for good.',
  labelNames: ['kind', 'outcome'],
  registers,
});

export const outboxItems = new Gauge({
  name: 'tandem_outbox_items',
  help: 'Mails and changes at Stripe that wait, or that failed and are kept for an operator.',
  labelNames: ['status'],
  registers,
});

export const outboxOldest = new Gauge({
  name: 'tandem_outbox_oldest_seconds',
  help: 'How long the oldest mail or change at Stripe has waited; 0 when none waits.',
  registers,
});
