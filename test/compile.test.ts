import { execFile } from 'node:child_process';
import { copyFile, mkdir, readdir, symlink, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';

import { expect, test } from 'vitest';

import { emptyFolder } from './support/process.ts';

const SRC = join(import.meta.dirname, '../src');
const PACKAGES = join(import.meta.dirname, '../node_modules');
const PROGRAMS = ['server', 'cli', 'demo'];

const run = promisify(execFile);

/** A project with programs that print a word, and a package that they import. */
async function project() {
  const folder = await emptyFolder();
  const [src, installed] = [join(folder, 'src'), join(folder, 'node_modules')];
  await mkdir(src);
  await mkdir(join(installed, 'a-package'), { recursive: true });
  await symlink(join(PACKAGES, 'esbuild'), join(installed, 'esbuild'));
  for (const file of ['run.js', 'compile.js']) await copyFile(join(SRC, file), join(src, file));
  await writeFile(join(folder, 'package.json'), '{ "type": "module" }');
  let time = Math.ceil(Date.now() / 1000);
  /** Writes a file with a newer time than all before. */
  async function write(path: string, text: string): Promise<void> {
    time += 1;
    await writeFile(path, text);
    await utimes(path, time, time);
    await utimes(join(path, '..'), time, time);
  }
  const say = (word: string): Promise<void> =>
    write(join(src, 'word.ts'), `export const word: string = '${word}';`);
  const install = async (word: string): Promise<void> => {
    await write(join(installed, 'a-package/index.js'), `export default '${word}';`);
    await write(join(installed, '.package-lock.json'), '{}');
  };
  await say('hello');
  await install('world');
  const program = `import packaged from 'a-package'; import { word } from './word.ts'; console.log(word, packaged);`;
  for (const name of PROGRAMS) await write(join(src, `${name}.ts`), program);
  const cli = async (): Promise<string> => (await run(process.execPath, [join(src, 'run.js'), 'cli'])).stdout;
  return { dist: join(folder, 'dist'), say, install, cli };
}

test('a program is recompiled only when a source file or a package has changed', async () => {
  const { dist, say, install, cli } = await project();
  expect(await cli()).toBe('hello world\n');
  await writeFile(join(dist, 'cli.js'), `console.log('compiled before');`);
  expect(await cli()).toBe('compiled before\n');
  await say('goodbye');
  expect(await cli()).toBe('goodbye world\n');
  await install('everybody');
  expect(await cli()).toBe('goodbye everybody\n');
});

test('the output of an older compilation is removed an hour after it was replaced, however old it is', async () => {
  const { dist, say, cli } = await project();
  await cli();
  const chunks = async () => (await readdir(dist)).filter((name) => name.startsWith('chunk-'));
  const first = await chunks();
  expect(first.length).toBeGreaterThan(0);
  const written = async (name: string, time: number) => utimes(join(dist, name), time, time);
  for (const name of first) await written(name, 0);
  await say('good morning');
  await cli();
  expect(await chunks()).toEqual(expect.arrayContaining(first));

  // More than an hour later.
  for (const name of first) await written(name, 0);
  await say('good night');
  await cli();
  const left = await chunks();
  expect(left.filter((name) => first.includes(name))).toEqual([]);
  expect(await cli()).toBe('good night world\n');
});
