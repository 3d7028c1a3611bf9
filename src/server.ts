import closeWithGrace from 'close-with-grace';

import { loadEnvFile } from './env-file.ts';
import { nativeModuleProblem } from './native-module.ts';
import { PlainError } from './plain-error.ts';

const SHUTDOWN_MS = 10_000;

try {
  loadEnvFile();
  // Here, so that a package that cannot be loaded is told in one line as well.
  const { startServer } = await import('./start.ts');
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
  const plain = error instanceof PlainError ? error : nativeModuleProblem(error);
  if (!plain) throw error;
  process.stderr.write(`${plain.message}\n`);
  // At once: Node rejects the import of a package that cannot be loaded a second time, where nobody listens.
  process.exit(1);
}
