import { randomUUID } from 'node:crypto';

import { Client } from 'pg';

/** A name that no other database on the server has. */
export function newDatabaseName(): string {
  return `tandem_test_${randomUUID().replaceAll('-', '')}`;
}

/** The address of a database on a server. */
export function databaseOn(server: string, name: string): string {
  return Object.assign(new URL(server), { pathname: `/${name}` }).href;
}

/** What its types leave out: whether the process goes on living while the connection is open. */
type Administrator = Client & { ref: () => void; unref: () => void };

/** Kept, because connecting costs about as much as making a database. */
const administrators = new Map<string, Promise<Administrator>>();

/** Runs one statement as whoever the address of the server names. */
export async function asAdministrator(server: string, statement: string): Promise<void> {
  const connected = administrators.get(server) ?? connect(server);
  administrators.set(server, connected);
  const administrator = await connected;
  administrator.ref();
  try {
    await administrator.query(statement);
  } finally {
    administrator.unref();
  }
}

async function connect(server: string): Promise<Administrator> {
  const client = new Client({ connectionString: server }) as Administrator;
  client.on('error', () => administrators.delete(server));
  await client.connect();
  return client;
}
