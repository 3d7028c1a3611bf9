import type { Logger } from 'pino';

import type { Db } from '../db/transaction.ts';
import { queueAlarm } from './alarm.ts';
import { queueReminders } from './reminders.ts';

const HOUR_MS = 3_600_000;

export interface HourlyContext {
  db: Db;
  /** OPERATOR_EMAIL; null when it is not set. */
  operatorEmail: string | null;
  logger: Pick<Logger, 'warn'>;
  now: () => Date;
}

/**
 * Queues the mails that no event triggers: reminders of free days that end, and the alarm to the operator. It
 * runs at once and then every hour, on every server.
 *
 * @returns a function that stops it and waits for a run in progress
 */
export function startHourly({ db, operatorEmail, logger, now }: HourlyContext): () => Promise<void> {
  async function run(): Promise<void> {
    try {
      await queueReminders(db, now());
      if (operatorEmail !== null) await queueAlarm(db, operatorEmail, now());
    } catch {
      // A busy or unreachable database is reported elsewhere.
      logger.warn('reminders could not be queued; it is tried again within an hour');
    }
  }
  let running = run();
  const timer = setInterval(() => {
    running = running.then(run);
  }, HOUR_MS).unref();
  return async () => {
    clearInterval(timer);
    await running;
  };
}
