import { traceLedger, unspentOf } from '../credits/fold.ts';
import type { Spending, SpentPart } from '../credits/fold.ts';
import type { CreditEntry } from '../db/generated/client.ts';
import { addSeconds, later } from '../instants.ts';

/** An entry of the ledger, or what was spent between two. */
export type CreditLine<Entry extends CreditEntry = CreditEntry> = { kind: 'entry'; entry: Entry } | Spending;

/** Where credit came from and where it went, seconds: granted = spent + takenBack + left. */
export interface CreditSum {
  granted: number;
  spent: number;
  /** By reversals, less what restorations returned. */
  takenBack: number;
  left: number;
}

export interface CreditHistory<Entry extends CreditEntry = CreditEntry> {
  lines: CreditLine<Entry>[];
  sum: CreditSum;
}

/**
 * A ledger's whole history: every entry, and in between what was spent from which grants.
 *
 * @param entries one user's entries, in order of their sequence numbers
 * @param at end of the history, UTC; the last entry if that is later (another machine's clock may be ahead)
 */
export function explainCredit<Entry extends CreditEntry>(
  entries: readonly Entry[],
  at: Date,
): CreditHistory<Entry> {
  const last = entries.at(-1)?.at ?? null;
  const { steps, spentSince, lots } = traceLedger(entries, later(at, last));
  const lines: CreditLine<Entry>[] = [];
  let previous: Date | null = null;
  for (const { entry, spentBefore } of steps) {
    lines.push(...spending(previous, spentBefore), { kind: 'entry', entry });
    previous = entry.at;
  }
  lines.push(...spending(previous, spentSince));

  const total = (kind: string): number => sumOf(entries.filter((entry) => entry.kind === kind));
  const spendings = lines.filter((line) => line.kind === 'spent');
  return {
    lines,
    sum: {
      granted: total('grant'),
      spent: sumOf(spendings),
      takenBack: total('reversal') - total('restoration'),
      left: unspentOf(lots),
    },
  };
}

/** Credit is spent from the moment of the entry until it is used up or held. */
function spending(from: Date | null, of: SpentPart[]): Spending[] {
  if (from === null || of.length === 0) return [];
  const seconds = sumOf(of);
  return [{ kind: 'spent', from, until: addSeconds(from, seconds), seconds, of }];
}

function sumOf(parts: readonly { seconds: number }[]): number {
  return parts.reduce((sum, { seconds }) => sum + seconds, 0);
}
