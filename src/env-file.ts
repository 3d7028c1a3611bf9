import { readFileSync } from 'node:fs';
import { parseEnv } from 'node:util';

import { PlainError } from './plain-error.ts';

/**
 * Loads `.env` from the working directory, if there is one, into `process.env`. Variables that are already set win.
 *
 * @returns the names of the variables that came from the file
 * @throws PlainError when the file cannot be read
 */
export function loadEnvFile(): Set<string> {
  const added = Object.entries(parseEnv(readEnvFile())).filter(([name]) => !(name in process.env));
  for (const [name, value] of added) process.env[name] = value;
  return new Set(added.map(([name]) => name));
}

function readEnvFile(): string {
  try {
    return readFileSync('.env', 'utf8');
  } catch (error) {
    const { code = '' } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT') return '';
    throw new PlainError(`.env cannot be read (${code}). Fix its permissions, or remove it.`);
  }
}
