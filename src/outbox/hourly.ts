import type { Logger } from 'pino';

import { forgetMailboxes } from '../accounts/mail-limit.ts';
import type { Db } from '../db/transaction.ts';
import { addSeconds, DAY_SECONDS, secondsBetween } from '../instants.ts';
import { queueAlarm } from './alarm.ts';
import type { Examine } from './alarm.ts';
import { errorName } from './error-name.ts';
import { queueReminders } from './reminders.ts';

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
  /** Does the hourly work now, after any run in progress. */
  run: () => Promise<void>;
  /** Stops, aborting an examination, and waits for a run in progress. */
  close: () => Promise<void>;
}

/**
 * Queues the emails that no event triggers: reminders that free days end soon or have ended, and the alarm to the
 * operator. It also forgets which mailboxes were sent emails more than a day ago. It runs at once and then every hour, on
 * every server.
 */
export function startHourly({ db, operatorEmail, examine, logger, now }: HourlyContext): Hourly {
  // The first examination comes after an hour, so that a server that keeps restarting does not read every row each
  // time.
  let examinedAt = addSeconds(now(), HOUR_SECONDS - EXAMINE_SECONDS);

  const stop = new AbortController();

  async function alarm(address: string): Promise<void> {
    const isDue = secondsBetween(examinedAt, now()) >= EXAMINE_SECONDS;
    if (await queueAlarm(db, address, { examine: examineOrSay, isDue }, now())) examinedAt = now();
  }

  /** An examination that fails is a problem, too, and must not hide the others. */
  async function examineOrSay(): Promise<string[]> {
    try {
      return await examine(stop.signal);
    } catch (error) {
      stop.signal.throwIfAborted();
      logger.warn(
        { err: errorName(error) },
        'the database could not be examined; the server tries again in a day',
      );
      return ['The daily check of the database failed. Run "doctor".'];
    }
  }

  /** If one fails, the others are still done. */
  async function attempt(failure: string, work: () => Promise<void>): Promise<void> {
    await work().catch((error: unknown) => {
      if (error === stop.signal.reason) return;
      logger.warn({ err: errorName(error) }, `${failure}; the server tries again within an hour`);
    });
  }

  async function doAll(): Promise<void> {
    await attempt('reminders could not be queued', () => queueReminders(db, now()));
    if (operatorEmail !== null) await attempt('the alarm could not be queued', () => alarm(operatorEmail));
    await attempt('the hashed mailboxes of old emails could not be cleared', () =>
      forgetMailboxes(db, now()),
    );
  }
  let running = doAll();
  function run(): Promise<void> {
    running = running.then(doAll);
    return running;
  }
  const timer = setInterval(() => void run(), HOUR_SECONDS * 1000).unref();
  return {
    run,
    close: async () => {
      clearInterval(timer);
      stop.abort();
      await running;
    },
  };
}
