import { readFileSync } from 'node:fs';
import { join } from 'node:path';

import { ROOT } from './root.ts';

/** Tandem's version. Reads package.json at run time, so that the version is not compiled in. */
export function readVersion(): string {
  const { version } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as { version: string };
  return version;
}
