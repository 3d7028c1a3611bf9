import closeWithGrace from 'close-with-grace';

import { loadEnvFile } from './env-file.ts';
import { giveUp } from './give-up.ts';
import { readableStack } from './readable-stack.ts';

const SHUTDOWN_MS = 10_000;

// Unhandled, an error on either (a full disk, a reader that has gone) would end the server.
for (const output of [process.stdout, process.stderr]) output.on('error', () => undefined);
try {
  loadEnvFile();
  // Imported here, so that a package that cannot be loaded is reported in one line.
  const { startServer } = await import('./start.ts');
  const { announce } = await import('./log.ts');
  const server = await startServer(process.env, () => new Date());
  announce(server.announcement, process.stdout);
  const onTimeout = (): void => {
    process.stderr.write(`The server did not shut down within ${SHUTDOWN_MS / 1000} s and was stopped.\n`);
  };
  const tell = (error: unknown): void => {
    process.stderr.write(`${readableStack(error instanceof Error ? error : new Error(String(error)))}\n`);
  };
  closeWithGrace({ delay: SHUTDOWN_MS, logger: false, onTimeout, onSecondError: tell }, async ({ err }) => {
    if (err) tell(err);
    // Otherwise the process would exit with code 1 and not say why.
    await server.close().catch((error: unknown) => {
      tell(error);
      throw error;
    });
  });
} catch (error) {
  giveUp(error);
}
