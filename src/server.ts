import closeWithGrace from 'close-with-grace';

import { loadEnvFile } from './env-file.ts';
import { PlainError } from './plain-error.ts';
import { startServer } from './start.ts';

const SHUTDOWN_MS = 10_000;

try {
  loadEnvFile();
  const server = await startServer(process.env, () => new Date());
  process.stdout.write(`${server.banner}\n`);
  const onTimeout = (): void => {
    process.stderr.write(
      `The server did not end within ${SHUTDOWN_MS / 1000} s: what it was doing is broken off.\n`,
    );
  };
  closeWithGrace({ delay: SHUTDOWN_MS, logger: false, onTimeout }, async ({ err }) => {
    if (err) process.stderr.write(`${err.stack ?? err.message}\n`);
    await server.close();
  });
} catch (error) {
  if (!(error instanceof PlainError)) throw error;
  process.stderr.write(`${error.message}\n`);
  process.exitCode = 1;
}
