import type { Logger } from 'pino';

import type { Db } from '../db/transaction.ts';
import { addSeconds, DAY_SECONDS, secondsBetween } from '../instants.ts';
import { queueAlarm } from './alarm.ts';
import type { Examine } from './alarm.ts';
import { queueReminders } from './reminders.ts';
import { nameOf } from './sender.ts';

const HOUR_SECONDS = 3_600;

/** Examine the whole database this often, s. A little less than a day, because the run a day later can come early. */
const EXAMINE_SECONDS = DAY_SECONDS - HOUR_SECONDS / 2;

export interface HourlyContext {
  db: Db;
  /** OPERATOR_EMAIL; null when it is not set. */
  operatorEmail: string | null;
  examine: Examine;
  logger: Pick<Logger, 'warn'>;
  now: () => Date;
}

export interface Hourly {
  /** Does the work of one hour. */
  run: () => Promise<void>;
  /** Stops, and waits for a run in progress. */
  close: () => Promise<void>;
}

/**
 * Queues the mails that no event triggers: reminders of free days that end, and the alarm to the operator. It
 * runs at once and then every hour, on every server.
 */
export function startHourly({ db, operatorEmail, examine, logger, now }: HourlyContext): Hourly {
  // First after an hour, so that a server that starts again and again does not read all rows each time.
  let examinedAt = addSeconds(now(), HOUR_SECONDS - EXAMINE_SECONDS);

  async function queueAll(): Promise<void> {
    try {
      await queueReminders(db, now());
      if (operatorEmail === null) return;
      const isDue = secondsBetween(examinedAt, now()) >= EXAMINE_SECONDS;
      if (await queueAlarm(db, operatorEmail, { examine, isDue }, now())) examinedAt = now();
    } catch (error) {
      logger.warn(
        { err: nameOf(error) },
        'reminders and the alarm could not be queued; the server tries again within an hour',
      );
    }
  }
  let running = queueAll();
  function run(): Promise<void> {
    running = running.then(queueAll);
    return running;
  }
  const timer = setInterval(() => void run(), HOUR_SECONDS * 1000).unref();
  return {
    run,
    close: async () => {
      clearInterval(timer);
      await running;
    },
  };
}
