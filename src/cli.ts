import { runCommandLine } from './operator/command-line.ts';
import { loadEnvFile } from './env-file.ts';
import { PlainError } from './plain-error.ts';

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
  if (!(error instanceof PlainError)) throw error;
  process.stderr.write(`${error.message}\n`);
  process.exitCode = 1;
}
