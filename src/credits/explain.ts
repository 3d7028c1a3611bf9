import type { CreditEntry } from '../db/generated/client.ts';
import { addSeconds } from '../instants.ts';
import { traceLedger } from './fold.ts';
import type { LedgerStep, Lot } from './fold.ts';

/** Credit that ran for a while: how much of it, and of which grants. */
export interface Spending {
  kind: 'spent';
  from: Date;
  until: Date;
  seconds: number;
  /** The oldest grant or restoration first, named by the number of its entry. */
  of: { seq: number; seconds: number }[];
}

/** An entry of the ledger, or what was spent between two. */
export type CreditLine<Entry extends CreditEntry = CreditEntry> = { kind: 'entry'; entry: Entry } | Spending;

/** Where credit came from and where it went, seconds: granted = spent + takenBack + left, always. */
export interface CreditSum {
  granted: number;
  spent: number;
  /** By reversals, less what restorations gave back. */
  takenBack: number;
  left: number;
}

/** A credit ledger, told from its start. */
export interface CreditHistory<Entry extends CreditEntry = CreditEntry> {
  lines: CreditLine<Entry>[];
  sum: CreditSum;
}

/**
 * Tells a credit ledger from its start: every entry, and between them what was spent of which grant.
 *
 * @param entries one user's entries, in the order of their sequence numbers
 * @param at until when, UTC, not before the last entry
 * @returns the lines in order, and the sum of it all
 */
export function explainCredit<Entry extends CreditEntry>(
  entries: readonly Entry[],
  at: Date,
): CreditHistory<Entry> {
  const { steps, lots } = traceLedger(entries, at);
  const lines: CreditLine<Entry>[] = [];
  let previous: LedgerStep<Entry> | null = null;
  for (const step of steps) {
    lines.push(...spendingSince(previous, step.before), { kind: 'entry', entry: step.entry });
    previous = step;
  }
  lines.push(...spendingSince(previous, lots));

  const total = (kind: string): number => sumOf(entries.filter((entry) => entry.kind === kind));
  const spendings = lines.filter((line) => line.kind === 'spent');
  return {
    lines,
    sum: {
      granted: total('grant'),
      spent: sumOf(spendings),
      takenBack: total('reversal') - total('restoration'),
      left: lots.reduce((sum, { unspent }) => sum + unspent, 0),
    },
  };
}

function spendingSince(previous: LedgerStep | null, lots: readonly Lot[]): Spending[] {
  if (!previous) return [];
  const of = previous.after
    .map(({ seq, unspent }, index) => ({ seq, seconds: unspent - (lots[index]?.unspent ?? 0) }))
    .filter(({ seconds }) => seconds > 0);
  if (of.length === 0) return [];
  const seconds = sumOf(of);
  const from = previous.entry.at;
  return [{ kind: 'spent', from, until: addSeconds(from, seconds), seconds, of }];
}

function sumOf(parts: readonly { seconds: number }[]): number {
  return parts.reduce((sum, { seconds }) => sum + seconds, 0);
}
