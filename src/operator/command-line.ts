import type { Writable } from 'node:stream';

import { Command, CommanderError, InvalidArgumentError } from 'commander';

import type { CommandContext, CommandResult } from './command.ts';
import { readConfig } from '../config.ts';
import type { Config } from '../config.ts';
import { COMMAND_WAIT_MS, expectDatabase, openDatabase } from '../db/open.ts';
import { isBusyOrUnreachable, isUnreachable } from '../db/transaction.ts';
import { DAY_SECONDS } from '../instants.ts';
import { nativeModuleProblem } from '../native-module.ts';
import { PlainError } from '../plain-error.ts';
import { readSandbox } from '../sandbox-file.ts';
import { sessionSecretOf } from '../session-secret.ts';
import { isTerminal, painterOf, PLAIN } from '../terminal.ts';
import { alignedLines } from './show.ts';
import { readVersion } from '../version.ts';

const DONE = 0;
const FAILED = 1;
const WRONG_USAGE = 2;

const WHO = 'an address, a user id, a referral code, or a Stripe id that leads to the account';

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

/** The options that all commands take, and those that only some do. */
interface Options {
  json?: true;
  failed?: true;
  note?: string;
}

/**
 * Runs one command. Its module is imported on demand, so that no command loads what only others need.
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

  accountCommand('user', 'show an account').action((who: string, options: Options) =>
    run(options, async (context) => (await import('./user.ts')).user(context, who)),
  );
  command('users', 'list the newest 100 accounts')
    .argument('[search]', 'only those whose address, code or id contains this')
    .action((search: string | undefined, options: Options) =>
      run(options, async (context) => (await import('./users.ts')).users(context, search)),
    );
  accountCommand(
    'explain',
    'show where every day of credit came from and went, and what became of each referral',
  ).action((who: string, options: Options) =>
    run(options, async (context) => (await import('./explain.ts')).explain(context, who)),
  );
  accountCommand('audit', "show who changed what about an account's access, when and why").action(
    (who: string, options: Options) =>
      run(options, async (context) => (await import('./audit.ts')).audit(context, who)),
  );
  accountCommand('grant-credit', 'give an account days of paid access')
    .argument('<days>', 'a whole number from 1 to 3650', wholeDays)
    .option('--note <text>', 'the reason, shown in the audit')
    .action((who: string, days: number, options: Options) =>
      run(options, async (context) => {
        const { grantCredit } = await import('./grant-credit.ts');
        return grantCredit(context, who, days, options.note);
      }),
    );
  command('relink', 'move a Stripe customer that was linked to the wrong account')
    .argument('<customer>', "Stripe's id of the customer (cus_…)", customerId)
    .argument('<who>', WHO)
    .option('--note <text>', 'the reason, shown in the audit of both accounts')
    .action((customer: string, who: string, options: Options) =>
      run(options, async (context) => {
        const { relink } = await import('./relink.ts');
        return relink(context, customer, who, options.note);
      }),
    );
  accountCommand('reset-link', 'print a link that sets a new password, once, within an hour').action(
    (who: string, options: Options) =>
      run(options, async (context) => (await import('./reset-link.ts')).resetLink(context, who)),
  );
  command('events', 'list the newest 100 Stripe events and their outcomes')
    .argument('[who]', `only those about this account: ${WHO}`)
    .option('--failed', 'list all failed events, oldest first')
    .action((who: string | undefined, options: Options) =>
      run(options, async (context) => {
        const { events } = await import('./events.ts');
        return events(context, options.failed ?? false, who);
      }),
    );
  command('event', 'show one Stripe event, its outcome and its payload')
    .argument('<event-id>', "Stripe's id of the event (evt_…)")
    .action((eventId: string, options: Options) =>
      run(options, async (context) => (await import('./event.ts')).event(context, eventId)),
    );
  command('replay', 'handle a failed event again, from its stored payload')
    .argument('<event-id>', "Stripe's id of the event (evt_…)")
    .action((eventId: string, options: Options) =>
      run(options, async (context) => (await import('./replay.ts')).replay(context, eventId)),
    );
  command('mail', 'list the newest 100 emails and changes at Stripe, and their outcomes')
    .option('--failed', 'list all that failed for good, oldest first')
    .action((options: Options) =>
      run(options, async (context) => (await import('./mail.ts')).mail(context, options.failed ?? false)),
    );
  command('mail-resend', 'send an email, or make a change at Stripe, again')
    .argument('<id>', 'its id, as `mail` shows it')
    .action((id: string, options: Options) =>
      run(options, async (context) => (await import('./mail.ts')).mailResend(context, id)),
    );
  command('reconcile', 'compare the database with Stripe, and fix and list the differences')
    .option(
      '--since <duration>',
      'how far to look back, such as 36h or 7d; if omitted, all objects, and events since the last run',
      duration,
    )
    .option('--dry-run', 'list the differences without fixing them')
    .action((options: Options & { since?: number; dryRun?: true }) =>
      run(options, async (context) => {
        const { reconcile } = await import('./reconcile.ts');
        return reconcile(context, options.since ?? null, options.dryRun ?? false);
      }),
    );
  command('status', 'show the version, the database, counts, and what is queued or has failed').action(
    (options: Options) => run(options, async (context) => (await import('./status.ts')).status(context)),
  );
  command('doctor', 'check every invariant of the database, and list the rows that break one').action(
    (options: Options) => run(options, async (context) => (await import('./doctor.ts')).doctor(context)),
  );
  command(
    'prune',
    'remove unused fields from the payloads of old events, and delete expired sessions and reset links, and old emails',
  ).action((options: Options) =>
    run(options, async (context) => (await import('./prune.ts')).prune(context)),
  );
  command('backup', 'copy the SQLite database into one file, even while servers write to it')
    .argument('<file>', 'a file that does not exist yet')
    .action((file: string, options: Options) =>
      runAlone(options, async (config) => (await import('./backup.ts')).backup(config, file)),
    );
  command('migrate-to', 'copy everything from the SQLite database into an empty PostgreSQL database')
    .argument('<url>', 'postgresql://user:password@host:port/database')
    .action((url: string, options: Options) =>
      runAlone(options, async (config) => (await import('./migrate-to.ts')).migrateTo(config, url)),
    );
  command('migrate', 'apply pending database migrations (starting the server does this too)').action(
    (options: Options) =>
      run(options, async (context) => (await import('./migrate.ts')).migrate(context), true),
  );
  command(
    'check-config',
    'show where each variable comes from, its effect, and what is wrong with it',
  ).action(async (options: Options) => {
    const { checkConfigCommand } = await import('./check-config.ts');
    print(options, await checkConfigCommand(surroundings.env, surroundings.fromFile, paint));
  });

  // After an unknown command, the full help would scroll the suggestion out of sight.
  program.showHelpAfterError('Run `npx tandem --help` to see all commands.');
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
    return command(name, description).argument('<who>', WHO);
  }

  async function run(
    options: Options,
    work: (context: CommandContext) => Promise<CommandResult>,
    mayCreate = false,
  ): Promise<void> {
    await runAlone(options, async (config) => {
      if (!mayCreate) await expectDatabase(config.databaseUrl);
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
        return await work({ config, db, migrations, sessionSecret, stripe, now: clock(), clock, paint });
      } finally {
        await db.$disconnect();
      }
    });
  }

  /** For commands that open the database themselves. */
  async function runAlone(options: Options, work: (config: Config) => Promise<CommandResult>): Promise<void> {
    print(options, await work(readConfig(surroundings.env)));
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
    const message = 'The connection to the database was lost. Check that it is running, then try again.';
    return { code: 'database_unavailable', message };
  }
  if (isBusyOrUnreachable(error))
    return { code: 'database_busy', message: 'The database is busy. Try again.' };
  const plain = error instanceof PlainError ? error : nativeModuleProblem(error);
  return plain && { code: plain.kind, message: plain.message };
}

function customerId(text: string): string {
  if (!/^cus_\w+$/.test(text))
    throw new InvalidArgumentError("It must be Stripe's id of a customer, such as cus_123.");
  return text;
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
