import { inject, onTestFinished } from 'vitest';

import { otherConnection } from './other-connection.ts';
import { until } from './process.ts';

/** Advisory lock key that no other test uses. */
const LOCK = 4_242;

export interface RacePoint {
  /** Waits until a transaction has stopped here. */
  arrived: () => Promise<void>;
  /** Waits until another transaction waits for a lock held by the one stopped here. */
  blocked: () => Promise<void>;
  /** Lets all transactions continue. */
  open: () => Promise<void>;
}

/**
 * A point, right before one kind of write, at which a transaction stops until the test lets it continue. For
 * PostgreSQL only: on SQLite transactions never overlap, so there is nothing to stop.
 *
 * @param write `INSERT` or `UPDATE`
 * @param when stops only while this SQL condition on NEW is true
 */
export async function holdBefore(
  server: { databaseUrl: string },
  write: string,
  table: string,
  when = 'true',
): Promise<RacePoint> {
  const { run, rows } = await otherConnection(server);
  await run(`
    CREATE FUNCTION stand_still() RETURNS trigger LANGUAGE plpgsql AS $$
      BEGIN IF ${when} THEN PERFORM pg_advisory_xact_lock_shared(${LOCK}); END IF; RETURN NEW; END $$;
    CREATE TRIGGER stand_still BEFORE ${write} ON "${table}" FOR EACH ROW EXECUTE FUNCTION stand_still();
    SELECT pg_advisory_lock(${LOCK});
  `);
  let open = false;
  const letGo = async (): Promise<void> => {
    if (open) return;
    open = true;
    await run(`SELECT pg_advisory_unlock(${LOCK})`);
  };
  onTestFinished(letGo);
  const waiting = (count: number) => async (): Promise<true | undefined> => {
    const waiters = await rows(
      `SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`,
    );
    return waiters.length >= count || undefined;
  };
  return {
    arrived: async () => {
      await until(waiting(1));
    },
    blocked: async () => {
      await until(waiting(2));
    },
    open: letGo,
  };
}

/** Whether this run's transactions can be open concurrently. */
export const SIDE_BY_SIDE = inject('engine') === 'postgresql';

export type Point = [write: string, table: string, when?: string];

/**
 * Starts `held`, stops it before a write, starts `meanwhile`, waits until that is blocked by the lock of the first, and
 * lets both continue. On SQLite it only starts both at once, because there one transaction always waits for the other to
 * end.
 *
 * @returns the status of both answers
 */
export async function race(
  server: { databaseUrl: string },
  held: () => Promise<{ statusCode: number }>,
  point: Point,
  meanwhile: () => Promise<{ statusCode: number }>,
): Promise<number[]> {
  const answers: Promise<{ statusCode: number }>[] = [];
  if (SIDE_BY_SIDE) {
    const { arrived, blocked, open } = await holdBefore(server, ...point);
    answers.push(held());
    await arrived();
    answers.push(meanwhile());
    await blocked();
    await open();
  } else {
    answers.push(held(), meanwhile());
  }
  return (await Promise.all(answers)).map(({ statusCode }) => statusCode);
}
