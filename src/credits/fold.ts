import type { CreditEntry, User } from '../db/generated/client.ts';
import { creditLeft, granted, held, resumed, taken } from './balance.ts';
import type { CreditBalance } from './balance.ts';

/** A grant or restoration, and how much of it is not spent yet. */
export interface Lot {
  /** The number of the entry that made it. */
  seq: number;
  referralId: string | null;
  unspent: number;
}

interface Fold extends CreditBalance {
  /** The oldest first: the order in which they are spent. */
  lots: Lot[];
  at: Date | null;
}

const EMPTY: Fold = { creditUntil: null, creditHeldAt: null, lots: [], at: null };

/**
 * Folds a credit ledger from its start.
 *
 * @param entries one user's entries, in the order of their sequence numbers
 * @returns the columns that the user's row must hold
 */
export function foldLedger(entries: readonly CreditEntry[]): CreditBalance {
  const { creditUntil, creditHeldAt } = entries.reduce(applyEntry, EMPTY);
  return { creditUntil, creditHeldAt };
}

/**
 * @param entries one user's entries, in the order of their sequence numbers
 * @param referralId a referral that paid out to this user
 * @param at an instant, UTC, not before the last entry
 * @returns the seconds of that referral's credit (grant and restorations) that are not spent at that instant
 */
export function unspentOfReferral(entries: readonly CreditEntry[], referralId: string, at: Date): number {
  const { lots } = spendUntil(entries.reduce(applyEntry, EMPTY), at);
  return lots.filter((lot) => lot.referralId === referralId).reduce((sum, lot) => sum + lot.unspent, 0);
}

/** One entry of a ledger, with what was unspent of every lot just before it and just after it. */
export interface LedgerStep<Entry extends CreditEntry = CreditEntry> {
  entry: Entry;
  before: readonly Lot[];
  after: readonly Lot[];
}

/**
 * Folds a credit ledger from its start and tells every step of it.
 *
 * @param entries one user's entries, in the order of their sequence numbers
 * @param at an instant, UTC, not before the last entry
 * @returns the steps, and what is unspent of every lot at that instant, the oldest first
 */
export function traceLedger<Entry extends CreditEntry>(
  entries: readonly Entry[],
  at: Date,
): { steps: LedgerStep<Entry>[]; lots: readonly Lot[] } {
  let fold = EMPTY;
  const steps = entries.map((entry) => {
    const before = spendUntil(fold, entry.at).lots;
    fold = applyEntry(fold, entry);
    return { entry, before, after: fold.lots };
  });
  return { steps, lots: spendUntil(fold, at).lots };
}

/**
 * Checks the invariants of one user's ledger (README.md in this folder lists them).
 *
 * @param user the user's row
 * @param entries all of the user's entries, in the order of their sequence numbers
 * @returns a sentence for each invariant that is broken; empty when all hold
 */
export function checkLedger(
  user: Pick<User, 'creditUntil' | 'creditHeldAt' | 'creditEntryCount' | 'creditEntryAt' | 'tier'>,
  entries: readonly CreditEntry[],
): string[] {
  const broken: string[] = [];
  const say = (holds: boolean, sentence: string): void => {
    if (!holds) broken.push(sentence);
  };

  say(user.creditEntryCount === entries.length, 'the user counts another number of entries than there are');
  say(
    sameInstant(user.creditEntryAt, entries.at(-1)?.at ?? null),
    'the user has another instant for the last entry than that entry',
  );
  say(
    entries.every((entry, index) => entry.seq === index + 1),
    'the sequence numbers are not 1, 2, 3 …',
  );
  say(
    entries.every((entry, index) => index === 0 || entry.at >= (entries[index - 1]?.at ?? entry.at)),
    'an entry is earlier than the one before it',
  );
  const balance = foldLedger(entries);
  say(sameInstant(balance.creditUntil, user.creditUntil), 'the ledger folds to another creditUntil');
  say(sameInstant(balance.creditHeldAt, user.creditHeldAt), 'the ledger folds to another creditHeldAt');
  say(
    (user.tier === 'paid') === (user.creditHeldAt !== null),
    'credit is not held exactly while the tier is paid',
  );
  say(takesAlternate(entries), 'a reversal and its restoration do not match');
  return broken;
}

function applyEntry(fold: Fold, entry: CreditEntry): Fold {
  const { seq, at, seconds, referralId } = entry;
  const { lots } = spendUntil(fold, at);
  switch (entry.kind) {
    case 'hold':
      return { ...held(fold, at), lots, at };
    case 'resume':
      return { ...resumed(fold, at), lots, at };
    case 'grant':
    case 'restoration':
      return { ...granted(fold, at, seconds), lots: [...lots, { seq, referralId, unspent: seconds }], at };
    case 'reversal':
      return {
        ...taken(fold, at, seconds),
        lots: spendOldest(lots, seconds, (lot) => lot.referralId === referralId),
        at,
      };
    default:
      throw new Error(`The credit ledger holds an entry of the unknown kind ${entry.kind}.`);
  }
}

/** Lets time pass: credit that runs is spent, the oldest lot first. */
function spendUntil(fold: Fold, at: Date): Fold {
  if (fold.at === null) return fold;
  const spent = creditLeft(fold, fold.at) - creditLeft(fold, at);
  return { ...fold, lots: spendOldest(fold.lots, spent, () => true), at };
}

function spendOldest(lots: readonly Lot[], seconds: number, from: (lot: Lot) => boolean): Lot[] {
  let rest = seconds;
  return lots.map((lot) => {
    if (!from(lot)) return lot;
    const spent = Math.min(rest, lot.unspent);
    rest -= spent;
    return { ...lot, unspent: lot.unspent - spent };
  });
}

/** Of each referral: a grant, then reversals and restorations in turn, each restoration giving back what was taken. */
function takesAlternate(entries: readonly CreditEntry[]): boolean {
  const openReversal = new Map<string, number | null>();
  for (const { kind, referralId, seconds } of entries) {
    if (referralId === null) continue;
    const taken = openReversal.get(referralId);
    if (kind === 'grant' && taken === undefined) openReversal.set(referralId, null);
    else if (kind === 'reversal' && taken === null) openReversal.set(referralId, seconds);
    else if (kind === 'restoration' && taken === seconds) openReversal.set(referralId, null);
    else return false;
  }
  return true;
}

function sameInstant(a: Date | null, b: Date | null): boolean {
  return a?.getTime() === b?.getTime();
}
