import { existsSync } from 'node:fs';
import { mkdtemp } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** Where there is one, a folder in memory: the tests wait for thousands of commits, each of which is a flush to disk. */
const IN_MEMORY = '/dev/shm';

/** Makes an empty folder for temporary files of one run. */
export function newScratchFolder(): Promise<string> {
  return mkdtemp(join(existsSync(IN_MEMORY) ? IN_MEMORY : tmpdir(), 'tandem-test-'));
}
