import {
  existsSync,
  mkdirSync,
  readdirSync,
  renameSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';

const SOURCE = import.meta.dirname;
const DIST = join(SOURCE, '../dist');

/** Its time is that of the newest source that was compiled. */
const STAMP = join(DIST, 'compiled');

/** How long what an earlier compilation wrote is kept, ms: a program that is starting may still import its chunks. */
const KEPT_MS = 3_600_000;

/** The programs: each becomes one file in dist/, with what they share in chunks beside them. */
const PROGRAMS = ['server', 'cli', 'demo'];

/**
 * Compiles the programs into `dist/`, if a source is newer than what is there or `dist/` is missing. Types are not
 * checked: `npm run typecheck` does that.
 *
 * Chunks are named after their content and older ones stay for an hour, so a program that is starting finds its own. Each
 * file appears whole, and the stamp last, so two processes may compile at the same time.
 *
 * @returns {Promise<string>} the folder of the compiled programs
 */
export async function compileIfStale() {
  const newest = newestChange(SOURCE);
  if (!existsSync(STAMP) || statSync(STAMP).mtimeMs < newest) await compile(newest);
  return DIST;
}

/** @param {number} newest ms since 1970 */
async function compile(newest) {
  const { build } = await import('esbuild');
  const { outputFiles } = await build({
    entryPoints: PROGRAMS.map((program) => join(SOURCE, `${program}.ts`)),
    outdir: DIST,
    bundle: true,
    splitting: true,
    packages: 'external',
    platform: 'node',
    format: 'esm',
    target: 'node20.19',
    sourcemap: true,
    write: false,
    logLevel: 'error',
  });
  // The programs last: they name the chunks.
  const ordered = outputFiles.toSorted((a, b) => rank(a.path) - rank(b.path));
  for (const { path, contents } of ordered) writeWhole(path, contents);
  writeWhole(STAMP, '');
  // Rounded up: a file's time can be set to the millisecond only, and is kept more finely.
  utimesSync(STAMP, new Date(), new Date(Math.ceil(newest)));
  deleteOldFiles(new Set([STAMP, ...outputFiles.map(({ path }) => path)]));
}

/** @param {Set<string>} current the paths of what is in use */
function deleteOldFiles(current) {
  const oldest = Date.now() - KEPT_MS;
  for (const entry of readdirSync(DIST, { withFileTypes: true })) {
    const path = join(DIST, entry.name);
    if (entry.isFile() && !current.has(path) && statSync(path).mtimeMs < oldest)
      rmSync(path, { force: true });
  }
}

/** @param {string} path */
function rank(path) {
  return PROGRAMS.some((program) => path === join(DIST, `${program}.js`)) ? 1 : 0;
}

/**
 * @param {string} path
 * @param {Uint8Array | string} contents
 */
function writeWhole(path, contents) {
  const unfinished = `${path}.${process.pid}`;
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(unfinished, contents);
  renameSync(unfinished, path);
}

/**
 * The newest change of a file in a folder, or of a folder itself (something was added or removed), ms since 1970.
 *
 * @param {string} folder
 * @returns {number}
 */
function newestChange(folder) {
  return readdirSync(folder, { withFileTypes: true }).reduce((newest, entry) => {
    const path = join(folder, entry.name);
    return Math.max(newest, entry.isDirectory() ? newestChange(path) : statSync(path).mtimeMs);
  }, statSync(folder).mtimeMs);
}
