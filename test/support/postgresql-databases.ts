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

/** Runs one statement on a connection of its own. */
export async function asAdministrator(server: string, statement: string): Promise<void> {
  const client = new Client({ connectionString: server });
  await client.connect();
  try {
    await client.query(statement);
  } finally {
    await client.end();
  }
}
