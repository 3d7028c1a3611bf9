import type { Logger } from 'pino';

import type { Db } from '../db/transaction.ts';
import { queueAlarm } from './alarm.ts';
import { queueReminders } from './reminders.ts';

const HOUR_MS = 3_600_000;

export interface HourlyContext {
  db: Db;
  /** OPERATOR_EMAIL. */
  operatorEmail: string | null;
  logger: Pick<Logger, 'warn'>;
  now: () => Date;
}

/**
 * Queues what no event queues: reminders of days that end, and the operator's mail while something is wrong. It does so at
 * once and then every hour, in every server.
 *
 * @param context the database, and whom to tell
 * @returns stops it, and waits for the run under way
 */
export function startHourly({ db, operatorEmail, logger, now }: HourlyContext): () => Promise<void> {
  async function run(): Promise<void> {
    try {
      await queueReminders(db, now());
      if (operatorEmail !== null) await queueAlarm(db, operatorEmail, now());
    } catch {
      // A busy or unreachable database tells of itself elsewhere.
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
