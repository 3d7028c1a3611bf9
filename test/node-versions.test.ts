import { readFile } from 'node:fs/promises';
import { join } from 'node:path';

import { subset } from 'semver';
import { expect, test } from 'vitest';

const ROOT = join(import.meta.dirname, '..');

interface Package {
  engines?: { node?: string };
}

const read = (name: string): Promise<string> => readFile(join(ROOT, name), 'utf8');

/** The Node.js versions that package.json allows. */
async function supported(): Promise<string> {
  const { engines } = JSON.parse(await read('package.json')) as Package;
  if (!engines?.node) throw new Error('package.json does not say which versions of Node.js it supports.');
  return engines.node;
}

test('every package in the lock file accepts every Node.js version that we support', async () => {
  const ours = await supported();
  const { packages } = JSON.parse(await read('package-lock.json')) as { packages: Record<string, Package> };
  const narrower = Object.entries(packages)
    .map(([path, { engines }]) => ({ path, node: engines?.node ?? '*' }))
    .filter(({ node }) => !subset(ours, node));
  expect(narrower).toEqual([]);
});

/** `^20.19 || ^24` in the words of the docs: "20 (from 20.19) or 24". */
function inWords(range: string): string {
  const lines = range.split(' || ').map((line) => {
    const [, major, minor] = /^\^(\d+)(\.\d+)?$/.exec(line) ?? [];
    if (!major) throw new Error(`${line} is not of the form ^20.19 or ^24.`);
    return minor ? `${major} (from ${major}${minor})` : major;
  });
  return `${lines.slice(0, -1).join(', ')} or ${lines.at(-1) ?? ''}`;
}

test.each(['README.md', 'docs/running.md'])('%s names the Node.js versions of package.json', async (page) => {
  const text = (await read(page)).replaceAll(/\s+/g, ' ');
  expect(text).toContain(`Node.js ${inWords(await supported())}`);
});
