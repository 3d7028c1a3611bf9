import { rm } from 'node:fs/promises';

import type { TestProject } from 'vitest/node';

import { migrateTemplate } from './migrate-template.ts';
import { asAdministrator, databaseOn, dropDatabases, newDatabaseName } from './postgresql-databases.ts';
import { startPostgresql } from './postgresql-server.ts';
import { newScratchFolder } from './scratch.ts';
import './provided.ts';

/**
 * Migrates one PostgreSQL database for all tests to copy: on the server of TEST_DATABASE_URL (its user must be a
 * superuser), or on one started for this run and stopped after it.
 */
export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const scratch = await newScratchFolder();
  const given = process.env['TEST_DATABASE_URL'];
  // Nothing here has to survive a power cut. Other settings, and STRATEGY FILE_COPY, save no measurable time.
  const server = given ? null : await startPostgresql({ flags: ['-c', 'fsync=off'] });
  const postgresqlServer = given ?? server?.url ?? '';

  const templateDatabase = newDatabaseName();
  await asAdministrator(postgresqlServer, `CREATE DATABASE ${templateDatabase}`);
  await migrateTemplate(databaseOn(postgresqlServer, templateDatabase), scratch);

  project.provide('scratch', scratch);
  project.provide('templateDatabase', templateDatabase);
  project.provide('postgresqlServer', postgresqlServer);
  return async () => {
    // A server that was started for this run goes with all its databases.
    await (server ? server.stop() : dropDatabases(postgresqlServer, templateDatabase));
    await rm(scratch, { recursive: true, force: true });
  };
}
