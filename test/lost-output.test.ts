import { open, readdir } from 'node:fs/promises';

import { expect, inject, onTestFinished, test } from 'vitest';

import { CLI_ENV } from './support/cli.ts';
import { freePort } from './support/free-port.ts';
import { startHeldSandbox } from './support/held-sandbox.ts';
import { emptyFolder, ended, startProgram } from './support/process.ts';
import { newDatabase, startTestServer } from './support/server.ts';

const DISK_FULL = /^The output could not be written: ENOSPC\b[^\n]*\n$/;

/** A standard output that takes nothing: the disk is full. */
async function fullDisk(): Promise<number> {
  const full = await open('/dev/full', 'w');
  onTestFinished(() => full.close());
  return full.fd;
}

test('a command whose output fills the disk says so in one line, and exits 1', async () => {
  const env = { ...CLI_ENV, DATABASE_URL: await newDatabase() };
  const users = await startProgram('cli', ['users', '--json'], env, undefined, await fullDisk());
  expect(await ended(users)).toEqual({
    code: 1,
    stdout: '',
    stderr: expect.stringMatching(DISK_FULL) as string,
  });
});

test('a command whose reader is gone ends quietly', async () => {
  const started = await startProgram('cli', ['--help'], {});
  started.child.stdout?.destroy();
  expect(await ended(started)).toEqual({ code: 0, stdout: '', stderr: '' });
});

test('reconcile does all its work although nobody reads its progress and its report', async () => {
  // On the real clock, like the command line.
  const sandbox = await startHeldSandbox({}, new Date());
  const server = await startTestServer();
  const env = {
    ...CLI_ENV,
    DATABASE_URL: server.databaseUrl,
    STRIPE_API_KEY: 'sk_test_sandbox',
    STRIPE_API_BASE: `http://127.0.0.1:${sandbox.apiPort}`,
  };
  const { id } = await sandbox.stripe.customers.create();
  await server.db.customer.create({ data: { id } });
  await sandbox.stripe.customers.del(id);
  const reconcile = await startProgram('cli', ['reconcile'], env);
  reconcile.child.stdout?.destroy();
  reconcile.child.stderr?.destroy();
  expect(await ended(reconcile)).toMatchObject({ code: 0 });
  expect(await server.db.customer.findUnique({ where: { id } })).toMatchObject({
    deletedAt: expect.any(Date) as Date,
  });
});

const OUTPUTS = ['nobody reads', ...(inject('thorough') ? ['fills the disk'] : [])];

test.each(OUTPUTS)('the demo, whose output %s, deletes its database', async (what) => {
  const folder = await emptyFolder();
  const isFull = what === 'fills the disk';
  const env = { PORT: String(await freePort()), TMPDIR: folder };
  const demo = await startProgram('demo', [], env, undefined, isFull ? await fullDisk() : 'pipe');
  demo.child.stdout?.destroy();
  expect(await ended(demo)).toEqual({
    code: isFull ? 1 : 0,
    stdout: '',
    stderr: expect.stringMatching(isFull ? DISK_FULL : /^$/) as string,
  });
  expect(await readdir(folder)).toEqual([]);
});
