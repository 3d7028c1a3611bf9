import { access, readFile } from 'node:fs/promises';
import { join } from 'node:path';

import { satisfies } from 'semver';
import { expect, test } from 'vitest';

const ROOT = join(import.meta.dirname, '..');

const read = (name: string): Promise<string> => readFile(join(ROOT, name), 'utf8');

/** The arguments of every such instruction, with continuation lines joined. */
async function instructions(name: string): Promise<string[]> {
  const text = (await read('Dockerfile')).replaceAll(/\\\n\s*/g, '');
  return [...text.matchAll(new RegExp(`^${name} (.*)$`, 'gm'))].map(([, rest = '']) => rest);
}

test('the Dockerfile copies only files that exist, and nothing that .dockerignore excludes', async () => {
  const left = new Set((await read('.dockerignore')).split('\n'));
  const copies = (await instructions('COPY')).filter((rest) => !rest.startsWith('--from='));
  const sources = copies.flatMap((rest) => rest.split(' ').slice(0, -1));
  expect(sources).toEqual(expect.arrayContaining(['package-lock.json', 'src', 'prisma', 'public', 'views']));
  for (const source of sources) {
    await access(join(ROOT, source));
    expect(left).not.toContain(source);
  }
  for (const secret of ['.env', '.git', 'data']) expect(left).toContain(secret);
});

test('the Dockerfile uses one version of Node.js, which package.json allows', async () => {
  const { engines } = JSON.parse(await read('package.json')) as { engines: { node: string } };
  const bases = (await instructions('FROM')).map((rest) => rest.split(' ')[0]);
  expect(new Set(bases).size).toBe(1);
  const [, major] = /^node:(\d+)-slim$/.exec(bases[0] ?? '') ?? [];
  expect(satisfies(`${major ?? ''}.999.0`, engines.node)).toBe(true);
});

test('the container does not run as root, keeps its data in a volume, and reports its health', async () => {
  expect(await instructions('USER')).toEqual(['node']);
  expect(await instructions('VOLUME')).toEqual(['/data']);
  expect((await instructions('ENV')).join(' ')).toContain('DATABASE_URL=file:/data/');
  const [check = ''] = await instructions('HEALTHCHECK');
  expect(check).toContain('/readyz');
  const [command = ''] = await instructions('CMD');
  const [program, ...rest] = JSON.parse(command) as string[];
  expect([program, rest.at(-1)]).toEqual(['node', 'dist/server.js']);
  // The image starts the compiled program without src/run.js, so it must pass the same V8 flag.
  const [, growth = 'none'] = /'(--heap-growing-percent=\d+)'/.exec(await read('src/run.js')) ?? [];
  expect(rest).toContain(growth);
  // With it Node keeps all source maps in memory; src/readable-stack.ts reads them when they are needed.
  expect(rest).not.toContain('--enable-source-maps');
  expect((await instructions('RUN')).join('\n')).toContain('npm ci --omit=dev');
});
