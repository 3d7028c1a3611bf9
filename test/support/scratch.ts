import { existsSync } from 'node:fs';
import { mkdtemp } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const IN_MEMORY = '/dev/shm';

/** In memory where possible: the tests wait for thousands of commits, and each is a flush to disk. */
export const SCRATCH = existsSync(IN_MEMORY) ? IN_MEMORY : tmpdir();

/** Makes an empty folder for temporary files of one run. */
export function newScratchFolder(): Promise<string> {
  return mkdtemp(join(SCRATCH, 'tandem-test-'));
}
