import { InvalidArgumentError } from 'commander';
import type { Command } from 'commander';

import type { Config } from '../config.ts';
import { DAY_SECONDS } from '../instants.ts';
import type { Paint } from '../terminal.ts';
import type { CommandContext, CommandResult } from './command.ts';

const WHO = 'an address, a user id, a referral code, or a Stripe id that leads to the account';

const UNIT_SECONDS = { h: 3600, d: DAY_SECONDS };

/** The options that all commands take, and those that only some do. */
export interface Options {
  json?: true;
  failed?: true;
  note?: string;
}

/** How a command's work is run and its result printed. */
export interface Runners {
  /** With the database, which must exist with all its migrations, unless `mayMigrate`. */
  run: (
    options: Options,
    work: (context: CommandContext) => Promise<CommandResult>,
    mayMigrate?: boolean,
  ) => Promise<void>;
  /** For commands that open the database themselves. */
  runAlone: (options: Options, work: (config: Config) => Promise<CommandResult>) => Promise<void>;
  /** For commands that must work even if the configuration is wrong. */
  runUnconfigured: (
    options: Options,
    work: (env: NodeJS.ProcessEnv, fromFile: ReadonlySet<string>, paint: Paint) => Promise<CommandResult>,
  ) => Promise<void>;
}

/**
 * Declares all commands, in the order of `--help`. Each one's module is imported on demand, so that no command loads
 * what only others need.
 */
export function declareCommands(program: Command, runners: Runners): void {
  declareAccountCommands(program, runners);
  declareStripeCommands(program, runners);
  declareServerCommands(program, runners);
}

function declareAccountCommands(program: Command, { run }: Runners): void {
  accountCommand(program, 'user', 'show an account').action((who: string, options: Options) =>
    run(options, async (context) => (await import('./user.ts')).user(context, who)),
  );
  command(program, 'users', 'list the newest 100 accounts')
    .argument('[search]', 'only those whose address, code or id contains this')
    .action((search: string | undefined, options: Options) =>
      run(options, async (context) => (await import('./users.ts')).users(context, search)),
    );
  accountCommand(
    program,
    'explain',
    "show where an account's credit came from and where it went, and what became of each referral",
  ).action((who: string, options: Options) =>
    run(options, async (context) => (await import('./explain.ts')).explain(context, who)),
  );
  accountCommand(program, 'audit', "show who changed what about an account's access, when and why").action(
    (who: string, options: Options) =>
      run(options, async (context) => (await import('./audit.ts')).audit(context, who)),
  );
  accountCommand(program, 'grant-credit', 'give an account days of paid access')
    .argument('<days>', 'a whole number from 1 to 3650', wholeDays)
    .option('--note <text>', 'the reason, shown in the audit')
    .action((who: string, days: number, options: Options) =>
      run(options, async (context) => {
        const { grantCredit } = await import('./grant-credit.ts');
        return grantCredit(context, who, days, options.note);
      }),
    );
  command(program, 'relink', 'move a Stripe customer that was linked to the wrong account')
    .argument('<customer>', "Stripe's id of the customer (cus_…)", customerId)
    .argument('<who>', WHO)
    .option('--note <text>', 'the reason, shown in the audit of both accounts')
    .action((customer: string, who: string, options: Options) =>
      run(options, async (context) => {
        const { relink } = await import('./relink.ts');
        return relink(context, customer, who, options.note);
      }),
    );
  accountCommand(
    program,
    'reset-link',
    'print a link for setting a new password; it works once, within an hour',
  ).action((who: string, options: Options) =>
    run(options, async (context) => (await import('./reset-link.ts')).resetLink(context, who)),
  );
}

function declareStripeCommands(program: Command, { run }: Runners): void {
  command(program, 'events', 'list the newest 100 Stripe events and their outcomes')
    .argument('[who]', `only those about this account: ${WHO}`)
    .option('--failed', 'list all failed events, oldest first')
    .action((who: string | undefined, options: Options) =>
      run(options, async (context) => {
        const { events } = await import('./events.ts');
        return events(context, options.failed ?? false, who);
      }),
    );
  command(program, 'event', 'show one Stripe event, its outcome and its payload')
    .argument('<event-id>', "Stripe's id of the event (evt_…)")
    .action((eventId: string, options: Options) =>
      run(options, async (context) => (await import('./event.ts')).event(context, eventId)),
    );
  command(program, 'replay', 'handle a failed event again, from its stored payload')
    .argument('<event-id>', "Stripe's id of the event (evt_…)")
    .action((eventId: string, options: Options) =>
      run(options, async (context) => (await import('./replay.ts')).replay(context, eventId)),
    );
  command(program, 'mail', 'list the newest 100 emails and changes at Stripe, and their outcomes')
    .option('--failed', 'list all that failed for good, oldest first')
    .action((options: Options) =>
      run(options, async (context) => (await import('./mail.ts')).mail(context, options.failed ?? false)),
    );
  command(program, 'mail-resend', 'send an email, or make a change at Stripe, again')
    .argument('<id>', 'its id, as `mail` shows it')
    .action((id: string, options: Options) =>
      run(options, async (context) => (await import('./mail.ts')).mailResend(context, id)),
    );
  command(program, 'reconcile', 'compare the database with Stripe, and fix and list the differences')
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
}

function declareServerCommands(program: Command, { run, runAlone, runUnconfigured }: Runners): void {
  command(
    program,
    'status',
    'show the version, the database, counts, and what is queued or has failed',
  ).action((options: Options) =>
    run(options, async (context) => (await import('./status.ts')).status(context)),
  );
  command(
    program,
    'doctor',
    'check every invariant of the database, and list the rows that break one',
  ).action((options: Options) =>
    run(options, async (context) => (await import('./doctor.ts')).doctor(context)),
  );
  command(
    program,
    'prune',
    "remove unused fields from the payloads of old events, delete expired sessions and links and old emails, and empty SQLite's write-ahead log",
  ).action((options: Options) =>
    run(options, async (context) => (await import('./prune.ts')).prune(context)),
  );
  command(program, 'backup', 'copy the SQLite database into one file, even while servers write to it')
    .argument('<file>', 'a file that does not exist yet')
    .action((file: string, options: Options) =>
      runAlone(options, async (config) => (await import('./backup.ts')).backup(config, file)),
    );
  command(program, 'migrate-to', 'copy everything from the SQLite database into an empty PostgreSQL database')
    .argument('<url>', 'postgresql://user:password@host:port/database')
    .action((url: string, options: Options) =>
      runAlone(options, async (config) => (await import('./migrate-to.ts')).migrateTo(config, url)),
    );
  command(program, 'migrate', 'apply pending database migrations (starting the server does this too)').action(
    (options: Options) =>
      run(options, async (context) => (await import('./migrate.ts')).migrate(context), true),
  );
  command(
    program,
    'check-config',
    'show where each variable comes from, its effect, and what is wrong with it',
  ).action((options: Options) =>
    runUnconfigured(options, async (env, fromFile, paint) => {
      const { checkConfigCommand } = await import('./check-config.ts');
      return checkConfigCommand(env, fromFile, paint);
    }),
  );
}

function command(program: Command, name: string, description: string): Command {
  return program
    .command(name)
    .description(description)
    .option('--json', 'print one JSON document and nothing else');
}

function accountCommand(program: Command, name: string, description: string): Command {
  return command(program, name, description).argument('<who>', WHO);
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
