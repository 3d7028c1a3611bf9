import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { basename, dirname, join } from 'node:path';

const SOURCE = import.meta.dirname;
const ROOT = join(SOURCE, '..');
const DIST = join(ROOT, 'dist');

/** npm rewrites this file at every install; packages are compiled into the programs too. */
const INSTALLED = join(ROOT, 'node_modules/.package-lock.json');

/** Packages that are not bundled: those with native code or data files, and one that pg imports optionally. */
const OUTSIDE = ['@node-rs/argon2', '@prisma/schema-engine-wasm', 'better-sqlite3', 'pg-native'];

/** What CommonJS packages expect to find. */
const COMMON_JS = `
import { createRequire as $createRequire } from 'node:module';
const require = $createRequire(import.meta.url);
const __filename = import.meta.filename;
const __dirname = import.meta.dirname;
`;

/** Its mtime is that of the newest source or install when it was written. It lists the compiled files. */
const STAMP = join(DIST, 'compiled');

/** How long replaced output is kept, ms: a program that is starting may still import its chunks. */
const KEPT_MS = 3_600_000;

/** Each program becomes one file in dist/, with shared chunks next to it. */
const PROGRAMS = ['server', 'cli', 'demo'];

/**
 * Compiles the programs and their packages into `dist/` if a source or an install is newer, or `dist/` is missing.
 * Does not check types; `npm run typecheck` does.
 *
 * Chunks are named by content and stay for an hour after they are replaced, so a program that is starting finds its own.
 * Each file is written atomically and the stamp last, so two processes may compile at the same time.
 *
 * @returns {Promise<string>} the folder of the compiled programs
 */
export async function compileIfStale() {
  const installed = statSync(INSTALLED, { throwIfNoEntry: false })?.mtimeMs ?? 0;
  const newest = Math.max(newestChange(SOURCE), installed);
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
    external: OUTSIDE.flatMap((name) => [name, `${name}/*`]),
    banner: { js: COMMON_JS },
    platform: 'node',
    format: 'esm',
    target: 'node20.19',
    sourcemap: true,
    sourcesContent: false,
    // Halves what has to be parsed at each start.
    minifyWhitespace: true,
    minifySyntax: true,
    write: false,
    logLevel: 'error',
  });
  // The programs last, because they import the chunks.
  const ordered = outputFiles.toSorted((a, b) => rank(a.path) - rank(b.path));
  for (const { path, contents } of ordered) writeWhole(path, contents);
  const current = outputFiles.map(({ path }) => basename(path));
  markReplaced(new Set(current));
  writeWhole(STAMP, current.join('\n'));
  // Rounded up: mtimes can be set only to the millisecond, but are stored more precisely.
  utimesSync(STAMP, new Date(), new Date(Math.ceil(newest)));
  deleteOldFiles(new Set([basename(STAMP), ...current]));
}

/**
 * Touches the files that this compilation replaces, so that their hour begins now and not when they were compiled.
 *
 * @param {Set<string>} current the names in use
 */
function markReplaced(current) {
  if (!existsSync(STAMP)) return;
  const now = new Date();
  for (const name of readFileSync(STAMP, 'utf8').split('\n')) {
    const path = join(DIST, name);
    if (name !== '' && !current.has(name) && existsSync(path)) utimesSync(path, now, now);
  }
}

/** @param {Set<string>} current the names in use */
function deleteOldFiles(current) {
  const oldest = Date.now() - KEPT_MS;
  for (const entry of readdirSync(DIST, { withFileTypes: true })) {
    const path = join(DIST, entry.name);
    if (entry.isFile() && !current.has(entry.name) && changedAt(path, oldest) < oldest)
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
 * The newest mtime of a file or folder (a folder's changes when something is added or removed), ms since 1970.
 *
 * @param {string} folder
 * @returns {number}
 */
function newestChange(folder) {
  return readdirSync(folder, { withFileTypes: true }).reduce((newest, entry) => {
    const path = join(folder, entry.name);
    return Math.max(newest, entry.isDirectory() ? newestChange(path) : changedAt(path, newest));
  }, statSync(folder).mtimeMs);
}

/**
 * @param {string} path
 * @param {number} otherwise returned when the file is gone: another process has renamed or deleted it since it was
 *   listed
 * @returns {number} ms since 1970
 */
function changedAt(path, otherwise) {
  return statSync(path, { throwIfNoEntry: false })?.mtimeMs ?? otherwise;
}
