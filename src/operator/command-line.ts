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
import { sessionSecretOf } from '../session-secret.ts';

const DONE = 0;
const FAILED = 1;
const WRONG_USAGE = 2;

const UNIT_SECONDS = { h: 3600, d: DAY_SECONDS };

/** What a run of the command line takes from outside. */
export interface Surroundings {
  env: NodeJS.ProcessEnv;
  /** The names of the variables that came from `.env`. */
  fromFile: ReadonlySet<string>;
  stdout: Writable;
  stderr: Writable;
  now: () => Date;
}

/**
 * Runs one command. Each command's module is imported when it runs, so that none waits for what only others need.
 *
 * @param args what stands behind the program's name
 * @returns the exit code: 0 done, 1 failed, 2 wrong usage
 */
export async function runCommandLine(args: readonly string[], surroundings: Surroundings): Promise<number> {
  const { stdout, stderr } = surroundings;
  let exitCode = DONE;
  const program = new Command('cli')
    .description("Tandem's command line: look at accounts, and mend them.")
    .exitOverride()
    .configureOutput({
      writeOut: (text) => void stdout.write(text),
      writeErr: (text) => void stderr.write(text),
    })
    .showHelpAfterError()
    .helpCommand(false);

  accountCommand('grant-credit', 'give an account days of paid access')
    .argument('<days>', 'how many, a whole number from 1 to 3650', wholeDays)
    .option('--note <text>', 'why, in your own words: it stands in the audit')
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
  accountCommand('reset-link', 'print a link that sets a new password, once, within an hour').action(
    (email: string, options: { json?: true }) =>
      run(options, async (context) => (await import('./reset-link.ts')).resetLink(context, email)),
  );
  command('events', 'list the newest 100 Stripe events, and what came of them')
    .option('--failed', 'all that failed, the oldest first')
    .action((options: { failed?: true; json?: true }) =>
      run(options, async (context) => {
        const { events } = await import('./events.ts');
        return events(context, options.failed ?? false);
      }),
    );
  command('replay', 'handle an event that failed once more, from what is kept of it')
    .argument('<event-id>', "Stripe's id of the event (evt_…)")
    .action((eventId: string, options: { json?: true }) =>
      run(options, async (context) => (await import('./replay.ts')).replay(context, eventId)),
    );
  command('mail', 'list the newest 100 mails and changes at Stripe, and what came of them')
    .option('--failed', 'all that failed for good, the oldest first')
    .action((options: { failed?: true; json?: true }) =>
      run(options, async (context) => (await import('./mail.ts')).mail(context, options.failed ?? false)),
    );
  command('mail-resend', 'send a mail, or make a change at Stripe, once more')
    .argument('<id>', 'its id, as `mail` shows it')
    .action((id: string, options: { json?: true }) =>
      run(options, async (context) => (await import('./mail.ts')).mailResend(context, id)),
    );
  command('reconcile', 'bring the database back to what Stripe says, and tell what differed')
    .option('--since <duration>', 'how far to look back, such as 36h or 7d', duration)
    .option('--dry-run', 'only tell what differs')
    .action((options: { since?: number; dryRun?: true; json?: true }) =>
      run(options, async (context) => {
        const { reconcile } = await import('./reconcile.ts');
        return reconcile(context, options.since ?? null, options.dryRun ?? false);
      }),
    );
  command(
    'prune',
    'thin the payloads of old events, and delete sessions, reset links and mails that have ended',
  ).action((options: { json?: true }) =>
    run(options, async (context) => (await import('./prune.ts')).prune(context)),
  );
  command('doctor', 'check every invariant of the database, and name the rows that break one').action(
    (options: { json?: true }) =>
      run(options, async (context) => (await import('./doctor.ts')).doctor(context)),
  );
  command('backup', 'copy the SQLite database into one file, while servers write to it')
    .argument('<file>', 'a file that is not there yet')
    .action((file: string, options: { json?: true }) =>
      runAlone(options, async (config) => (await import('./backup.ts')).backup(config, file)),
    );
  command('migrate-to', 'copy everything from the SQLite database into an empty PostgreSQL database')
    .argument('<url>', 'postgresql://user:password@host:port/database')
    .action((url: string, options: { json?: true }) =>
      runAlone(options, async (config) => (await import('./migrate-to.ts')).migrateTo(config, url)),
    );
  command('migrate', 'bring the database up to date (starting the server does it too)').action(
    (options: { json?: true }) =>
      run(options, async (context) => (await import('./migrate.ts')).migrate(context)),
  );

  command(
    'check-config',
    'show every variable: where it comes from, what it does, and what is wrong with it',
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
        const stripe =
          config.stripe.apiKey === null
            ? null
            : (await import('../stripe/client.ts')).createStripe(config.stripe);
        const { now: clock } = surroundings;
        return await work({ config, db, migrations, sessionSecret, stripe, now: clock(), clock });
      } finally {
        await db.$disconnect();
      }
    });
  }

  /** Runs a command that opens the database itself. */
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

  /** Says what went wrong; the exit code. */
  function explainFailure(error: unknown): number {
    if (error instanceof InvalidArgumentError)
      stderr.write(`${error.message}\n\n${program.helpInformation()}`);
    // Commander throws for a help that was asked for as well, with 0.
    if (error instanceof CommanderError) return error.exitCode === 0 ? DONE : WRONG_USAGE;
    if (isUnreachable(error)) {
      stderr.write('The database cannot be reached any more: see that it runs, then try again.\n');
      return FAILED;
    }
    if (isRefused(error)) {
      stderr.write('The database is busy: try again.\n');
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
  if (days < 1 || days > 3650) throw new InvalidArgumentError('It wants a whole number from 1 to 3650.');
  return days;
}

function duration(text: string): number {
  const [, count, unit] = /^([1-9]\d{0,4})([hd])$/.exec(text) ?? [];
  if (!count || !unit) throw new InvalidArgumentError('It wants hours or days, such as 36h or 7d.');
  return Number(count) * UNIT_SECONDS[unit as keyof typeof UNIT_SECONDS];
}
