import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';

const RUN = join(import.meta.dirname, '../../src/run.js');

/**
 * Migrates the database that tests copy, in a separate process: this one sets up the tests of both engines, each with
 * our modules loaded anew, and cannot load the schema engine twice.
 *
 * @param folder where the process runs: one without an `.env`
 */
export async function migrateTemplate(databaseUrl: string, folder: string): Promise<void> {
  await promisify(execFile)(process.execPath, [RUN, 'cli', 'migrate'], {
    cwd: folder,
    env: {
      PATH: process.env['PATH'],
      DATABASE_URL: databaseUrl,
      SESSION_SECRET: 'a session secret for the tests only',
    },
  });
}
