import type { Writable } from 'node:stream';

import { Command, CommanderError } from 'commander';

import { readConfig } from '../config.ts';
import type { Config } from '../config.ts';
import { COMMAND_WAIT_MS, expectDatabase, openDatabase } from '../db/open.ts';
import { isBusyOrUnreachable, isUnreachable } from '../db/transaction.ts';
import { nativeModuleProblem } from '../native-module.ts';
import { PlainError } from '../plain-error.ts';
import { readSandbox } from '../sandbox-file.ts';
import { sessionSecretOf } from '../session-secret.ts';
import { isTerminal, painterOf, PLAIN } from '../terminal.ts';
import type { Paint } from '../terminal.ts';
import { readVersion } from '../version.ts';
import type { CommandContext, CommandResult } from './command.ts';
import { declareCommands } from './commands.ts';
import type { Options } from './commands.ts';
import { alignedLines } from './show.ts';

const DONE = 0;
const FAILED = 1;
const WRONG_USAGE = 2;

/** The environment of a command. */
export interface Surroundings {
  env: NodeJS.ProcessEnv;
  /** The names of the variables that came from `.env`. */
  fromFile: ReadonlySet<string>;
  stdout: Writable;
  stderr: Writable;
  now: () => Date;
}

/**
 * Runs one command.
 *
 * @returns the exit code: 0 done, 1 failed, 2 wrong usage
 */
export async function runCommandLine(args: readonly string[], surroundings: Surroundings): Promise<number> {
  const { stdout, stderr } = surroundings;
  const json = args.includes('--json');
  const paint = json ? PLAIN : painterOf(stdout);
  let exitCode = DONE;
  const program = new Command('tandem')
    .description("Tandem's command line for operators.")
    .version(readVersion())
    .exitOverride()
    .configureOutput({
      writeOut: (text) => void stdout.write(text),
      // With --json, wrong usage prints a JSON document instead.
      writeErr: (text) => void (json || stderr.write(text)),
    })
    .showHelpAfterError()
    .helpCommand(false);

  declareCommands(program, { run, runAlone, runUnconfigured });
  // After an unknown command, the full help would scroll the suggestion out of sight.
  program.showHelpAfterError('Add --help to see all commands.');
  try {
    await program.parseAsync(args, { from: 'user' });
    return exitCode;
  } catch (error) {
    return explainFailure(error);
  }

  async function run(
    options: Options,
    work: (context: CommandContext) => Promise<CommandResult>,
    mayMigrate = false,
  ): Promise<void> {
    await runAlone(options, async (config) => {
      if (!mayMigrate) await expectDatabase(config.databaseUrl);
      const pending = mayMigrate ? 'apply' : 'refuse';
      const { db, migrations } = await openDatabase(config.databaseUrl, COMMAND_WAIT_MS, pending);
      try {
        const sessionSecret = await sessionSecretOf(config);
        const sandbox = config.sandbox ? await readSandbox(config) : null;
        const stripeConfig = sandbox?.stripe ?? config.stripe;
        const stripe =
          stripeConfig.apiKey === null
            ? null
            : (await import('../stripe/client.ts')).createStripe(stripeConfig);
        const clock = (): Date => new Date(surroundings.now().getTime() + (sandbox?.aheadMs ?? 0));
        return await work({ config, db, migrations, sessionSecret, stripe, now: clock(), clock, paint });
      } finally {
        await db.$disconnect();
      }
    });
  }

  async function runAlone(options: Options, work: (config: Config) => Promise<CommandResult>): Promise<void> {
    print(options, await work(readConfig(surroundings.env)));
  }

  async function runUnconfigured(
    options: Options,
    work: (env: NodeJS.ProcessEnv, fromFile: ReadonlySet<string>, paint: Paint) => Promise<CommandResult>,
  ): Promise<void> {
    print(options, await work(surroundings.env, surroundings.fromFile, paint));
  }

  function print(options: Options, { text, table, json: document, failed }: CommandResult): void {
    const shown = table && isTerminal(stdout) ? alignedLines(table, paint) : text;
    stdout.write(options.json ? `${JSON.stringify(document, null, 2)}\n` : `${shown}\n`);
    if (failed) exitCode = FAILED;
  }

  /** Prints what went wrong and returns the exit code. */
  function explainFailure(error: unknown): number {
    // Commander also throws for requested help, with exit code 0.
    if (error instanceof CommanderError && error.exitCode === 0) return DONE;
    const failure = describeFailure(error);
    if (json) stdout.write(errorDocument(failure ?? AN_ERROR));
    if (!failure) throw error;
    // Commander has printed its own errors.
    const isUsage = failure.code === USAGE;
    if (!json && !isUsage) stderr.write(`${failure.message}\n`);
    return isUsage ? WRONG_USAGE : FAILED;
  }
}

/** A failure as it is printed. */
interface Failure {
  code: string;
  message: string;
}

const USAGE = 'wrong_usage';

/** An error in Tandem. Its stack goes to stderr. */
const AN_ERROR: Failure = {
  code: 'internal_error',
  message: 'The command failed because of an error in Tandem. The stack trace is on standard error.',
};

/** What a command prints with --json when it fails. */
export function errorDocument({ code, message }: Failure): string {
  return `${JSON.stringify({ error: { code, message } }, null, 2)}\n`;
}

/** @returns null when the error is a bug */
function describeFailure(error: unknown): Failure | null {
  if (error instanceof CommanderError) {
    const message = error.message.replace(/^error: /, '').replaceAll(/\s+/g, ' ');
    return { code: USAGE, message };
  }
  if (isUnreachable(error)) {
    const message =
      'The connection to the database was lost. Check that the database server is running, then try again.';
    return { code: 'database_unavailable', message };
  }
  if (isBusyOrUnreachable(error))
    return { code: 'database_busy', message: 'The database is busy. Try again.' };
  const plain = error instanceof PlainError ? error : nativeModuleProblem(error);
  return plain && { code: plain.kind, message: plain.message };
}
