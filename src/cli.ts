import { runCommandLine } from './operator/command-line.ts';
import { loadEnvFile } from './env-file.ts';
import { PlainError } from './plain-error.ts';
import { readableStack } from './readable-stack.ts';

try {
  const fromFile = loadEnvFile();
  const { env, stdout, stderr } = process;
  process.exitCode = await runCommandLine(process.argv.slice(2), {
    env,
    fromFile,
    stdout,
    stderr,
    now: () => new Date(),
  });
} catch (error) {
  process.stderr.write(`${error instanceof PlainError ? error.message : readableStack(error)}\n`);
  process.exitCode = 1;
}
