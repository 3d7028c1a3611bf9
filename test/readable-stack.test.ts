import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';

import { transform } from 'esbuild';
import { expect, test } from 'vitest';

import { readableStack } from '../src/readable-stack.ts';
import { emptyFolder } from './support/process.ts';

const SOURCE = `
export function fail(what: string): never {

  throw new Error(\`This fails: \${what}.\`);
}
`;

/** The error of a compiled program, with or without its map. */
async function failed(withMap: boolean): Promise<unknown> {
  const folder = await emptyFolder();
  const options = { loader: 'ts', sourcemap: true, minify: true, sourcefile: 'failing.ts' } as const;
  const { code, map } = await transform(SOURCE, options);
  const file = join(folder, 'failing.js');
  await writeFile(file, code);
  if (withMap) await writeFile(`${file}.map`, map);
  const { fail } = (await import(/* @vite-ignore */ pathToFileURL(file).href)) as {
    fail: (what: string) => never;
  };
  try {
    return fail('always');
  } catch (error) {
    return error;
  }
}

test("an error's stack names the line of the source, not that of the compiled code", async () => {
  const stack = readableStack(await failed(true));
  expect(stack).toMatch(/^Error: This fails: always\.\n/);
  expect(stack).toMatch(/failing\.ts:4:\d+/);
  expect(stack).not.toContain('failing.js');
});

test('without a map it names the compiled code', async () => {
  expect(readableStack(await failed(false))).toMatch(/failing\.js:1:\d+/);
});

test('a thrown value that is not an Error is shown as it is', () => {
  expect(readableStack('nothing works')).toBe('nothing works');
});
