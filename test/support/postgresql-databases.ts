import { randomUUID } from 'node:crypto';

import { Client } from 'pg';

/** A name that no other database on the server has. */
export function newDatabaseName(): string {
  return `tandem_test_${randomUUID().replaceAll('-', '')}`;
}

/** The URL of a database on a server. */
export function databaseOn(server: string, name: string): string {
  return Object.assign(new URL(server), { pathname: `/${name}` }).href;
}

/** Missing from its types: whether the open connection keeps the process alive. */
type Administrator = Client & { ref: () => void; unref: () => void };

/** Kept open, because connecting takes about as long as creating a database. */
const administrators = new Map<string, Promise<Administrator>>();

/** Runs one statement as the user in the server's URL. */
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
