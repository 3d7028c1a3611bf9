import { existsSync } from 'node:fs';

import closeWithGrace from 'close-with-grace';

import { PlainError } from './plain-error.ts';
import { startServer } from './start.ts';

const SHUTDOWN_MS = 10_000;

if (existsSync('.env')) process.loadEnvFile('.env');

try {
  const server = await startServer(process.env, () => new Date());
  process.stdout.write(`${server.banner}\n`);
  closeWithGrace({ delay: SHUTDOWN_MS, logger: false }, async ({ err }) => {
    if (err) process.stderr.write(`${err.stack ?? err.message}\n`);
    await server.close();
  });
} catch (error) {
  if (!(error instanceof PlainError)) throw error;
  process.stderr.write(`${error.message}\n`);
  process.exitCode = 1;
}
