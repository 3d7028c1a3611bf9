import { randomBytes } from 'node:crypto';
import { readFile, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';

import type { Config } from './config.ts';

/**
 * The secret that keys the hashes of session and reset tokens: SESSION_SECRET, or, outside production, one that is made
 * at the first start and kept beside the database.
 *
 * @param config the configuration
 * @returns the secret
 */
export async function sessionSecretOf(config: Config): Promise<string> {
  if (config.sessionSecret !== null) return config.sessionSecret;
  const path = join(dirname(config.databaseUrl.replace(/^file:/, '')), 'session-secret');
  try {
    // Only the one who creates the file writes it: two processes that start together agree.
    await writeFile(path, randomBytes(32).toString('base64url'), { flag: 'wx', mode: 0o600 });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
  }
  return readFile(path, 'utf8');
}
