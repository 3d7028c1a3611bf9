import module from 'node:module';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import v8 from 'node:v8';

import { compileIfStale } from './compile.js';

// `node src/run.js PROGRAM [ARGUMENT…]` runs a compiled program, compiling it first if a source has changed. Without a
// program it only compiles.

/** By default, V8 would let the server's heap grow to three times its live size. See docs/benchmarks.md, memory. */
const HEAP_GROWTH = '--heap-growing-percent=20';

const [node = '', , program, ...args] = process.argv;
if (program === 'server') v8.setFlagsFromString(HEAP_GROWTH);
const folder = await compileIfStale().catch((error) => {
  process.stderr.write(
    `dist/ is missing or out of date, and compiling failed: ${error.message.trim().replace(/\.?$/, '.')} If you changed a source file, correct it. Otherwise run npm ci as the owner of this folder.\n`,
  );
  process.exit(1);
});
if (program !== undefined) {
  const path = join(folder, `${program}.js`);
  process.argv = [node, path, ...args];
  // Since Node 22.8: caches the compiled code for the next start.
  module.enableCompileCache?.(join(folder, 'cache'));
  await import(pathToFileURL(path).href);
}
