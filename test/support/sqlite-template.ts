import { rm } from 'node:fs/promises';
import { join } from 'node:path';

import Database from 'better-sqlite3';
import type { TestProject } from 'vitest/node';

import { migrateTemplate } from './migrate-template.ts';
import { newScratchFolder } from './scratch.ts';
import './provided.ts';

/** Migrates one SQLite database for all tests to copy. */
export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const scratch = await newScratchFolder();
  const templateDatabase = join(scratch, 'template.db');
  await migrateTemplate(`file:${templateDatabase}`, scratch);
  // Leave WAL mode, so that one file holds everything.
  const file = new Database(templateDatabase);
  file.pragma('journal_mode = DELETE');
  file.close();
  project.provide('scratch', scratch);
  project.provide('templateDatabase', templateDatabase);
  project.provide('postgresqlServer', null);
  return () => rm(scratch, { recursive: true, force: true });
}
