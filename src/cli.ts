import { loadEnvFile } from './env-file.ts';
import { errorDocument, runCommandLine } from './operator/command-line.ts';
import { PlainError } from './plain-error.ts';
import { readableStack } from './readable-stack.ts';

const args = process.argv.slice(2);
const { env, stdout, stderr } = process;
try {
  const fromFile = loadEnvFile();
  process.exitCode = await runCommandLine(args, { env, fromFile, stdout, stderr, now: () => new Date() });
} catch (error) {
  if (error instanceof PlainError && args.includes('--json')) {
    stdout.write(errorDocument({ code: error.kind, message: error.message }));
  } else {
    stderr.write(`${error instanceof PlainError ? error.message : readableStack(error)}\n`);
  }
  process.exitCode = 1;
}
