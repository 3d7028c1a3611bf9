import { loadEnvFile } from './env-file.ts';
import { finishWithoutOutput } from './lost-output.ts';
import { errorDocument, runCommandLine } from './operator/command-line.ts';
import { PlainError } from './plain-error.ts';
import { readableStack } from './readable-stack.ts';

const args = process.argv.slice(2);
const { env, stdout, stderr } = process;
finishWithoutOutput();
try {
  const fromFile = loadEnvFile();
  const code = await runCommandLine(args, { env, fromFile, stdout, stderr, now: () => new Date() });
  // Output that could not be written may have set it already.
  process.exitCode ||= code;
} catch (error) {
  if (error instanceof PlainError && args.includes('--json')) {
    stdout.write(errorDocument({ code: error.kind, message: error.message }));
  } else {
    stderr.write(`${error instanceof PlainError ? error.message : readableStack(error)}\n`);
  }
  process.exitCode = 1;
}
