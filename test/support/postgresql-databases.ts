import { randomUUID } from 'node:crypto';

import { Client } from 'pg';

/**
 * A name that no other database on the server has.
 *
 * @param start what it starts with, such as the name of the template that it is copied from
 */
export function newDatabaseName(start = 'tandem_test'): string {
  return `${start}_${randomUUID().slice(-12)}`;
}

/** Drops the databases whose names start with `start`. */
export async function dropDatabases(server: string, start: string): Promise<void> {
  const named = await asAdministrator(
    server,
    `SELECT datname FROM pg_database WHERE starts_with(datname, '${start}')`,
  );
  for (const { datname } of named as { datname: string }[]) {
    await asAdministrator(server, `DROP DATABASE ${datname} WITH (FORCE)`);
  }
}

/** The URL of a database on a server. */
export function databaseOn(server: string, name: string): string {
  return Object.assign(new URL(server), { pathname: `/${name}` }).href;
}

/** `ref()` and `unref()` are missing from pg's types. */
type Administrator = Client & { ref: () => void; unref: () => void };

/** Kept open, because connecting takes about as long as creating a database. */
const administrators = new Map<string, Promise<Administrator>>();

/** Runs one statement as the user in the server's URL, and returns its rows. */
export async function asAdministrator(server: string, statement: string): Promise<unknown[]> {
  const connected = administrators.get(server) ?? connect(server);
  administrators.set(server, connected);
  const administrator = await connected;
  administrator.ref();
  try {
    const { rows } = await administrator.query<object>(statement);
    return rows;
  } finally {
    administrator.unref();
  }
}

async function connect(server: string): Promise<Administrator> {
  const client = new Client({ connectionString: server }) as Administrator;
  client.on('error', () => administrators.delete(server));
  try {
    await client.connect();
  } catch (error) {
    administrators.delete(server);
    throw error;
  }
  return client;
}
