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
import { dirname, join } from 'node:path';

const SOURCE = import.meta.dirname;
const ROOT = join(SOURCE, '..');
const DIST = join(ROOT, 'dist');

/** What every install by npm changes: packages are compiled into the programs, too. */
const INSTALLED = join(ROOT, 'node_modules/.package-lock.json');

/**
 * Packages that stay outside: those with native code or a file of their own beside their code, and one that pg asks for and
 * does not need.
 */
const OUTSIDE = ['@node-rs/argon2', '@prisma/schema-engine-wasm', 'better-sqlite3', 'esbuild', 'pg-native'];

/** What packages in CommonJS expect to find. */
const COMMON_JS = `
import { createRequire as $createRequire } from 'node:module';
const require = $createRequire(import.meta.url);
const __filename = import.meta.filename;
const __dirname = import.meta.dirname;
`;

/** Its time is that of the newest source that was compiled. */
const STAMP = join(DIST, 'compiled');

/** How long what an earlier compilation wrote is kept, ms: a program that is starting may still import its chunks. */
const KEPT_MS = 3_600_000;

/** The programs: each becomes one file in dist/, with what they share in chunks beside them. */
const PROGRAMS = ['server', 'cli', 'demo'];

/** A source map without a mapping: it keeps packages out of the map of the program, which is read at every start. */
const NO_MAP = Buffer.from('{"version":3,"sources":[""],"mappings":"A"}').toString('base64');

/** @type {import('esbuild').Plugin} */
const withoutMapsOfPackages = {
  name: 'without maps of packages',
  setup: ({ onLoad }) => {
    onLoad({ filter: /node_modules.*\.[cm]?js$/ }, ({ path }) => ({
      contents: `${readFileSync(path, 'utf8')}\n//# sourceMappingURL=data:application/json;base64,${NO_MAP}`,
      loader: 'default',
    }));
  },
};

/**
 * Compiles the programs and the packages that they use into `dist/`, if a source or an install is newer than what is there
 * or `dist/` is missing. Types are not checked: `npm run typecheck` does that.
 *
 * Chunks are named after their content and older ones stay for an hour, so a program that is starting finds its own. Each
 * file appears whole, and the stamp last, so two processes may compile at the same time.
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
    // Half the size to parse at each start.
    minifyWhitespace: true,
    minifySyntax: true,
    plugins: [withoutMapsOfPackages],
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
