import { existsSync } from 'node:fs';

import { runCommandLine } from './command-line.ts';

if (existsSync('.env')) process.loadEnvFile('.env');

const { env, stdout, stderr } = process;
process.exitCode = await runCommandLine(process.argv.slice(2), {
  env,
  stdout,
  stderr,
  now: () => new Date(),
});
