import { access, readdir, readFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';

import { expect, test } from 'vitest';

import { emptyFolder, runCli } from './support/process.ts';

const ROOT = join(import.meta.dirname, '..');

async function pages(): Promise<{ name: string; text: string }[]> {
  const inDocs = (await readdir(join(ROOT, 'docs'), { recursive: true })).filter((name) =>
    name.endsWith('.md'),
  );
  const names = ['README.md', 'src/credits/README.md', ...inDocs.map((name) => join('docs', name))];
  return Promise.all(names.map(async (name) => ({ name, text: await readFile(join(ROOT, name), 'utf8') })));
}

async function missing(paths: string[]): Promise<string[]> {
  const found = await Promise.all(
    paths.map((path) =>
      access(join(ROOT, path)).then(
        () => [],
        () => [path],
      ),
    ),
  );
  return found.flat();
}

test('every file and folder that a page names exists', async () => {
  for (const { name, text } of await pages()) {
    // Decisions may name files that have since gone.
    if (name.includes('decisions')) continue;
    const named = [...text.matchAll(/`((?:src|test|prisma|views|public|docs)\/[^`\s]*)`/g)];
    const paths = named.flatMap(([, path = '']) => (/[<*…]/.test(path) ? [] : [path]));
    expect(await missing(paths), name).toEqual([]);
  }
});

test('every link between the docs leads to an existing page', async () => {
  for (const { name, text } of await pages()) {
    const links = [...text.matchAll(/\]\(([^)]+)\)/g)].flatMap(([, link = '']) =>
      /^(https?:|#)/.test(link) ? [] : [link.replace(/#.*$/, '')],
    );
    expect(await missing(links.map((link) => join(dirname(name), link))), name).toEqual([]);
  }
});

test('docs/running.md describes every command, and no other', async () => {
  const text = await readFile(join(ROOT, 'docs/running.md'), 'utf8');
  const section = text.split('\n## ').find((part) => part.startsWith('Commands\n')) ?? '';
  const described = [...section.matchAll(/^\| `([a-z-]+)/gm)].map(([, name]) => name);
  const { stdout } = await runCli(['--help'], { DATABASE_URL: `file:${await emptyFolder()}/none.db` });
  const there = [...stdout.matchAll(/^ {2}([a-z-]+) /gm)].map(([, name]) => name);
  expect(described).toContain('doctor');
  expect(described.sort()).toEqual(there.filter((name) => name !== 'help').sort());
});

/** Whether a file has the test `title` or `group › title`. */
function hasTest(source: string, path: string): boolean {
  const [title = '', group] = path.split(' › ').toReversed();
  const names = (block: string, name: string): boolean =>
    ["'", '"', '`'].some((quote) => block.includes(`${quote}${name}${quote},`));
  // The formatter starts each outermost block at the beginning of a line.
  const blocks = source.split(/^(?=describe\b|test\b)/m);
  return blocks.some(
    (block) =>
      names(block, title) &&
      (group === undefined ? block.startsWith('test') : block.startsWith('describe') && names(block, group)),
  );
}

test('"What happens when…" names only tests that exist', async () => {
  const page = await readFile(join(ROOT, 'docs/what-happens-when.md'), 'utf8');
  const proofs = [...page.matchAll(/`(test\/[\w-]+\.test\.ts)` "([^|]+)" +\|$/gm)];
  const cases = page.split('\n').filter((line) => /^\| .*`test\//.test(line));
  expect(proofs.length).toBe(cases.length);
  expect(proofs.length).toBeGreaterThan(50);
  for (const [, file = '', path = ''] of proofs) {
    const source = await readFile(join(ROOT, file), 'utf8');
    expect(hasTest(source, path), `${file} has no test "${path}"`).toBe(true);
  }
});
