import { randomUUID } from 'node:crypto';
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';

import { inject } from 'vitest';

import { otherConnection } from './other-connection.ts';
import type { OtherConnection } from './other-connection.ts';
import { newEmptyDatabase } from './server.ts';

/** A database in the state before a migration, and the function that runs that migration. */
export async function oldDatabase(
  migration: string,
): Promise<{ database: OtherConnection; migrate: () => Promise<void> }> {
  const onSqlite = inject('engine') === 'sqlite';
  const databaseUrl = onSqlite
    ? `file:${join(inject('scratch'), `${randomUUID()}.db`)}`
    : await newEmptyDatabase();
  const database = await otherConnection({ databaseUrl });
  const folder = join(import.meta.dirname, '../../prisma', onSqlite ? '' : 'postgresql', 'migrations');
  const names = (await readdir(folder)).filter((name) => /^\d/.test(name)).sort();
  const run = async (name: string) =>
    database.run(await readFile(join(folder, name, 'migration.sql'), 'utf8'));
  for (const name of names.filter((one) => one < migration)) await run(name);
  return { database, migrate: () => run(migration) };
}
