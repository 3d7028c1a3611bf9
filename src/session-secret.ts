import { randomBytes } from 'node:crypto';
import { link, mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';

import { isStrongSecret } from './config.ts';
import type { Config } from './config.ts';
import { dataFolder } from './db/open.ts';
import { ownerOnly } from './owner-only.ts';
import { PlainError } from './plain-error.ts';

/** Where the generated secret is stored. */
export function sessionSecretFile(databaseUrl: string): string {
  return join(dataFolder(databaseUrl), 'session-secret');
}

/**
 * The secret that keys the hashes of tokens and the links in mail: SESSION_SECRET or, outside production, one generated
 * at the first start and stored in the data folder.
 *
 * @throws PlainError when the stored secret cannot be created, read or used
 */
export async function sessionSecretOf(config: Config): Promise<string> {
  if (config.sessionSecret !== null) return config.sessionSecret;
  const path = sessionSecretFile(config.databaseUrl);
  const folder = dirname(path);
  const secret = await makeOrRead(folder, path).catch((error: unknown) => {
    if (error instanceof PlainError) throw error;
    throw new PlainError(
      `The session secret ${path} cannot be created or read: ${(error as Error).message}. Let this user read and write ${folder}.`,
    );
  });
  if (!isStrongSecret(secret)) {
    throw new PlainError(
      `The session secret ${path} is damaged. Delete it; the next start generates a new one, and everybody has to log in again.`,
    );
  }
  return secret;
}

async function makeOrRead(folder: string, path: string): Promise<string> {
  await mkdir(folder, { recursive: true, mode: 0o700 });
  const made = `${path}.${process.pid}`;
  await writeFile(made, randomBytes(32).toString('base64url'), { mode: 0o600 });
  try {
    // Creating a link is atomic: of two processes that start together, the second one reads the first one's secret.
    await link(made, path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
  } finally {
    await rm(made);
  }
  const secret = await readFile(path, 'utf8');
  await ownerOnly(path);
  return secret;
}
