import type { Writable } from 'node:stream';

import { Command, CommanderError, InvalidArgumentError } from 'commander';

import type { CommandContext, CommandResult } from './command.ts';
import { readConfig } from '../config.ts';
import type { Config } from '../config.ts';
import { COMMAND_WAIT_MS, openDatabase } from '../db/open.ts';
import { isRefused, isUnreachable } from '../db/transaction.ts';
import { DAY_SECONDS } from '../instants.ts';
import { nativeModuleProblem } from '../native-module.ts';
import { PlainError } from '../plain-error.ts';
import { readSandbox } from '../sandbox-file.ts';
import { sessionSecretOf } from '../session-secret.ts';

const DONE = 0;
const FAILED = 1;
const WRONG_USAGE = 2;

const UNIT_SECONDS = { h: 3600, d: DAY_SECONDS };

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
 * Runs one command. Its module is imported on demand, so that no command loads what only others need.
 *
 * @returns the exit code: 0 done, 1 failed, 2 wrong usage
 */
export async function runCommandLine(args: readonly string[], surroundings: Surroundings): Promise<number> {
  const { stdout, stderr } = surroundings;
  let exitCode = DONE;
  const program = new Command('cli')
    .description("Tandem's command line for operators.")
    .exitOverride()
    .configureOutput({
      writeOut: (text) => void stdout.write(text),
      writeErr: (text) => void stderr.write(text),
    })
    .showHelpAfterError()
    .helpCommand(false);

  accountCommand('grant-credit', 'give an account days of paid access')
    .argument('<days>', 'a whole number from 1 to 3650', wholeDays)
    .option('--note <text>', 'the reason, shown in the audit')
    .action((email: string, days: number, options: { note?: string; json?: true }) =>
      run(options, async (context) => {
        const { grantCredit } = await import('./grant-credit.ts');
        return grantCredit(context, email, days, options.note);
      }),
    );
  accountCommand('user', 'show an account').action((email: string, options: { json?: true }) =>
    run(options, async (context) => (await import('./user.ts')).user(context, email)),
  );
  accountCommand('audit', "show who changed what about an account's access, when and why").action(
    (email: string, options: { json?: true }) =>
      run(options, async (context) => (await import('./audit.ts')).audit(context, email)),
  );
  accountCommand(
    'explain',
    'show where every day of credit came from and went, and what became of each referral',
  ).action((email: string, options: { json?: true }) =>
    run(options, async (context) => (await import('./explain.ts')).explain(context, email)),
  );
  accountCommand('reset-link', 'print a one-time link that sets a new password, valid for an hour').action(
    (email: string, options: { json?: true }) =>
      run(options, async (context) => (await import('./reset-link.ts')).resetLink(context, email)),
  );
  command('events', 'list the newest 100 Stripe events and their outcomes')
    .option('--failed', 'list all failed events, oldest first')
    .action((options: { failed?: true; json?: true }) =>
      run(options, async (context) => {
        const { events } = await import('./events.ts');
        return events(context, options.failed ?? false);
      }),
    );
  command('replay', 'handle a failed event again, from its stored payload')
    .argument('<event-id>', "Stripe's id of the event (evt_…)")
    .action((eventId: string, options: { json?: true }) =>
      run(options, async (context) => (await import('./replay.ts')).replay(context, eventId)),
    );
  command('mail', 'list the newest 100 mails and changes at Stripe, and what came of them')
    .option('--failed', 'all that failed for good, the oldest first')
    .action((options: { failed?: true; json?: true }) =>
      run(options, async (context) => (await import('./mail.ts')).mail(context, options.failed ?? false)),
    );
  command('mail-resend', 'send a mail, or make a change at Stripe, again')
    .argument('<id>', 'its id, as `mail` shows it')
    .action((id: string, options: { json?: true }) =>
      run(options, async (context) => (await import('./mail.ts')).mailResend(context, id)),
    );
  command('reconcile', 'compare the database with Stripe, and fix and list the differences')
    .option('--since <duration>', 'how far to look back, such as 36h or 7d', duration)
    .option('--dry-run', 'list the differences without fixing them')
    .action((options: { since?: number; dryRun?: true; json?: true }) =>
      run(options, async (context) => {
        const { reconcile } = await import('./reconcile.ts');
        return reconcile(context, options.since ?? null, options.dryRun ?? false);
      }),
    );
  command(
    'prune',
    'thin the payloads of old events, and delete expired sessions and reset links, and old mails',
  ).action((options: { json?: true }) =>
    run(options, async (context) => (await import('./prune.ts')).prune(context)),
  );
  command('doctor', 'check every invariant of the database, and list the rows that break one').action(
    (options: { json?: true }) =>
      run(options, async (context) => (await import('./doctor.ts')).doctor(context)),
  );
  command('backup', 'copy the SQLite database into one file, while servers write to it')
    .argument('<file>', 'a file that does not exist yet')
    .action((file: string, options: { json?: true }) =>
      runAlone(options, async (config) => (await import('./backup.ts')).backup(config, file)),
    );
  command('migrate-to', 'copy everything from the SQLite database into an empty PostgreSQL database')
    .argument('<url>', 'postgresql://user:password@host:port/database')
    .action((url: string, options: { json?: true }) =>
      runAlone(options, async (config) => (await import('./migrate-to.ts')).migrateTo(config, url)),
    );
  command('migrate', 'apply pending database migrations (starting the server does this too)').action(
    (options: { json?: true }) =>
      run(options, async (context) => (await import('./migrate.ts')).migrate(context)),
  );

  command(
    'check-config',
    'show where each variable comes from, its effect, and what is wrong with it',
  ).action(async (options: { json?: true }) => {
    const { checkConfigCommand } = await import('./check-config.ts');
    print(options, await checkConfigCommand(surroundings.env, surroundings.fromFile));
  });

  try {
    await program.parseAsync(args, { from: 'user' });
    return exitCode;
  } catch (error) {
    return explainFailure(error);
  }

  function command(name: string, description: string): Command {
    return program
      .command(name)
      .description(description)
      .option('--json', 'print one JSON document and nothing else');
  }

  function accountCommand(name: string, description: string): Command {
    return command(name, description).argument('<email>', 'the address of the account');
  }

  async function run(
    options: { json?: true },
    work: (context: CommandContext) => Promise<CommandResult>,
  ): Promise<void> {
    await runAlone(options, async (config) => {
      const { db, migrations } = await openDatabase(config.databaseUrl, COMMAND_WAIT_MS);
      try {
        const sessionSecret = await sessionSecretOf(config);
        const sandbox = config.sandbox ? await readSandbox(config) : null;
        const stripeConfig = sandbox?.stripe ?? config.stripe;
        const stripe =
          stripeConfig.apiKey === null
            ? null
            : (await import('../stripe/client.ts')).createStripe(stripeConfig);
        const clock = (): Date => new Date(surroundings.now().getTime() + (sandbox?.aheadMs ?? 0));
        return await work({ config, db, migrations, sessionSecret, stripe, now: clock(), clock });
      } finally {
        await db.$disconnect();
      }
    });
  }

  /** For commands that open the database themselves. */
  async function runAlone(
    options: { json?: true },
    work: (config: Config) => Promise<CommandResult>,
  ): Promise<void> {
    print(options, await work(readConfig(surroundings.env)));
  }

  function print(options: { json?: true }, result: CommandResult): void {
    stdout.write(options.json ? `${JSON.stringify(result.json, null, 2)}\n` : `${result.text}\n`);
    if (result.failed) exitCode = FAILED;
  }

  /** Prints what went wrong and returns the exit code. */
  function explainFailure(error: unknown): number {
    if (error instanceof InvalidArgumentError)
      stderr.write(`${error.message}\n\n${program.helpInformation()}`);
    // Commander also throws for requested help, with exit code 0.
    if (error instanceof CommanderError) return error.exitCode === 0 ? DONE : WRONG_USAGE;
    if (isUnreachable(error)) {
      stderr.write('The connection to the database was lost. Check that it is running, then try again.\n');
      return FAILED;
    }
    if (isRefused(error)) {
      stderr.write('The database is busy. Try again.\n');
      return FAILED;
    }
    const plain = error instanceof PlainError ? error : nativeModuleProblem(error);
    if (!plain) throw error;
    stderr.write(`${plain.message}\n`);
    return FAILED;
  }
}

function wholeDays(text: string): number {
  const days = /^\d{1,4}$/.test(text) ? Number(text) : 0;
  if (days < 1 || days > 3650) throw new InvalidArgumentError('It must be a whole number from 1 to 3650.');
  return days;
}

function duration(text: string): number {
  const [, count, unit] = /^([1-9]\d{0,4})([hd])$/.exec(text) ?? [];
  if (!count || !unit)
    throw new InvalidArgumentError('It must be a number of hours or days, such as 36h or 7d.');
  return Number(count) * UNIT_SECONDS[unit as keyof typeof UNIT_SECONDS];
}
