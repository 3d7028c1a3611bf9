import { readFile, writeFile } from 'node:fs/promises';
import { join, relative } from 'node:path';

// Prisma allows one provider per schema. The models are written only in schema.prisma; PostgreSQL's schema is derived
// from it: `npm run schema` writes it, and `npm run schema:check`, a part of the tests, fails when it is out of date.

const SOURCE = join(import.meta.dirname, 'schema.prisma');
const DERIVED = join(import.meta.dirname, 'postgresql/schema.prisma');

/** The texts that differ. Each must occur exactly once. */
const REPLACEMENTS = [
  ['provider = "sqlite"', 'provider = "postgresql"'],
  ['"../src/db/generated"', '"../../src/db/generated-postgresql"'],
] as const;

const HEADER = '// Derived from ../schema.prisma by `npm run schema`: change that one.\n\n';

const derived = HEADER + REPLACEMENTS.reduce(replaceOnce, await readFile(SOURCE, 'utf8'));

if (process.argv.includes('--check')) {
  if ((await readFile(DERIVED, 'utf8')) !== derived) {
    process.stderr.write(`${relative('.', DERIVED)} is out of date: run npm run schema.\n`);
    process.exitCode = 1;
  }
} else {
  await writeFile(DERIVED, derived);
}

function replaceOnce(text: string, [from, to]: readonly [string, string]): string {
  const parts = text.split(from);
  if (parts.length !== 2) throw new Error(`schema.prisma must say ${from} once.`);
  return parts.join(to);
}
