import { SingleBar } from 'cli-progress';
import { Stripe } from 'stripe';

import { PlainError } from '../plain-error.ts';
import { eventContextOf } from '../stripe/handle-event.ts';
import { reconcile as run } from '../stripe/reconcile/reconcile.ts';
import type { Difference, Progress, ReconcileReport } from '../stripe/reconcile/report.ts';
import { counted, sentence } from '../wording.ts';
import { formatInstant } from './command.ts';
import type { CommandContext, CommandResult } from './command.ts';

const SANDBOX_OFF =
  'The sandbox runs inside the server, and the server is not running. Start it, then try again in another terminal.';

/**
 * `reconcile`: compares the database with Stripe, and fixes and lists the differences. Progress goes to stderr: a bar
 * on a terminal, plain lines elsewhere.
 *
 * @param seconds how far to look back, s; null for events since the last run and for all objects
 * @throws PlainError when no key is configured, or Stripe cannot be asked
 */
export async function reconcile(
  context: CommandContext,
  seconds: number | null,
  dryRun: boolean,
): Promise<CommandResult> {
  const { config, db, stripe, clock } = context;
  if (!stripe && config.sandbox) throw new PlainError(SANDBOX_OFF);
  if (!stripe)
    throw new PlainError('STRIPE_API_KEY is not set, so Stripe cannot be asked. Set it, then try again.');
  const { show, stop } = process.stderr.isTTY ? progressBar() : progressLines();
  try {
    const events = eventContextOf(context);
    const report = await run({ db, stripe, events, now: clock, dryRun, progress: show }, seconds);
    stop();
    return {
      text: formatReport(report),
      json: report,
      failed: !dryRun && !report.differences.every(isFixed),
    };
  } catch (error) {
    stop();
    if (!(error instanceof Stripe.errors.StripeError)) throw error;
    if (config.sandbox && error instanceof Stripe.errors.StripeConnectionError)
      throw new PlainError(SANDBOX_OFF);
    const next = dryRun
      ? 'Nothing was changed; try again.'
      : 'What was fixed so far is kept; run `reconcile` again to continue.';
    throw new PlainError(`Asking Stripe failed: ${sentence(error.message)} ${next}`);
  }
}

function isFixed({ fixed }: Difference): boolean {
  return fixed;
}

function formatReport({ since, dryRun, events, compared, differences }: ReconcileReport): string {
  const left = differences.filter(({ fixed }) => !fixed).length;
  const lines = differences.map(
    ({ object, id, field, here, there, fixed, problem }) =>
      `${object} ${id}, ${field}: here ${here}, at Stripe ${there}${fixed ? ' (fixed)' : ''}${problem ? ` (could not be fixed: ${problem})` : ''}`,
  );
  const differ = counted(differences.length, 'difference');
  const verdict =
    differences.length === 0
      ? 'No differences.'
      : dryRun
        ? `${differ}; nothing was changed.`
        : `${differ}, ${howManyFixed(differences.length, left)}.`;
  return [
    ...lines,
    `Compared: ${counted(events.seen, 'event')} since ${formatInstant(since)}, and ${counted(compared, 'object')}. ${verdict}`,
  ].join('\n');
}

function howManyFixed(all: number, left: number): string {
  if (all === 1) return left === 0 ? 'fixed' : 'not fixed';
  return left === 0 ? 'all fixed' : `${left} not fixed`;
}

interface Display {
  show: (progress: Progress) => void;
  stop: () => void;
}

function progressBar(): Display {
  const bar = new SingleBar({
    format: '{stage} [{bar}] {done}',
    stream: process.stderr,
    // Otherwise the bar turns line wrapping off, and Ctrl-C would leave the terminal like that. For the same reason it
    // does not hide the cursor.
    linewrap: true,
    clearOnComplete: true,
  });
  bar.start(1, 0, { stage: 'Asking Stripe', done: '' });
  return {
    show({ stage, done, total }) {
      bar.setTotal(total ?? done + 1);
      bar.update(done, { stage, done: total === null ? String(done) : `${done} of ${total}` });
    },
    stop() {
      bar.stop();
    },
  };
}

function progressLines(): Display {
  return {
    show({ stage, done, total }) {
      if (total !== null && done < total && done % 10 !== 0) return;
      process.stderr.write(`${stage}: ${done}${total === null ? '' : ` of ${total}`}\n`);
    },
    stop: () => undefined,
  };
}
