import { chmod, stat } from 'node:fs/promises';

import { PlainError } from './plain-error.ts';

const OTHERS = 0o077;
const OWNER = 0o700;

/**
 * Removes everybody else's permissions from a file, if it exists.
 *
 * @throws PlainError when its permissions cannot be read or changed
 */
export async function ownerOnly(path: string): Promise<void> {
  try {
    const { mode } = await stat(path);
    if ((mode & OTHERS) !== 0) await chmod(path, mode & OWNER);
  } catch (error) {
    const { code = '' } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT') return;
    throw new PlainError(
      `The permissions of ${path} could not be checked or changed (${code}). Other users of this machine must not read it: as its owner, run chmod 600 ${path}.`,
    );
  }
}
