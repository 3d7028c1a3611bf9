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

test('every file and folder named in the docs exists', async () => {
  for (const { name, text } of await pages()) {
    // Decisions describe the time they were made.
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
