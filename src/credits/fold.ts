import type { CreditEntry, User } from '../db/generated/client.ts';
import { creditLeft, granted, held, resumed, taken } from './balance.ts';
import type { CreditBalance } from './balance.ts';

/** The balance before the first entry. */
export const NEVER_ANY: CreditBalance = { creditUntil: null, creditHeldAt: null };

/**
 * Folds a credit ledger from its start.
 *
 * @param entries one user's entries, in the order of their sequence numbers
 * @returns the columns that the user's row must hold
 */
export function foldLedger(entries: readonly CreditEntry[]): CreditBalance {
  return entries.reduce(applyEntry, NEVER_ANY);
}

/**
 * @param entries one user's entries, in the order of their sequence numbers
 * @param referralId a referral that paid out to this user
 * @param at an instant, UTC, not before the last entry
 * @returns the seconds of that referral's credit (grant and restorations) that are not spent at that instant
 */
export function unspentOfReferral(entries: readonly CreditEntry[], referralId: string, at: Date): number {
  return unspentOf(traceLedger(entries, at).lots.filter((lot) => lot.referralId === referralId));
}

/** A grant or restoration, and how much of it is not spent yet. */
export interface Lot {
  /** The number of the entry that made it. */
  seq: number;
  referralId: string | null;
  unspent: number;
}

/** How much of a grant or restoration was spent in some time. */
export interface SpentPart {
  /** The number of the entry that made it. */
  seq: number;
  seconds: number;
}

/** Credit that ran for a while: how much of it, and of which grants. */
export interface Spending {
  kind: 'spent';
  from: Date;
  until: Date;
  seconds: number;
  /** The oldest grant or restoration first, named by the number of its entry. */
  of: SpentPart[];
}

/** One entry of a ledger, and what was spent since the entry before it, the oldest lot first. */
export interface LedgerStep<Entry extends CreditEntry = CreditEntry> {
  entry: Entry;
  spentBefore: SpentPart[];
}

/** A ledger told from its start until an instant. */
export interface LedgerTrace<Entry extends CreditEntry = CreditEntry> {
  steps: LedgerStep<Entry>[];
  /** What was spent between the last entry and that instant, the oldest lot first. */
  spentSince: SpentPart[];
  /** What is left at that instant, the oldest first. */
  lots: readonly Readonly<Lot>[];
}

/**
 * Folds a credit ledger from its start and tells every step of it. Its time grows with the number of entries, and no
 * faster: a lot that is spent is not looked at again.
 *
 * @param entries one user's entries, in the order of their sequence numbers
 * @param at an instant, UTC, not before the last entry
 * @returns the steps, and what is left of every lot at that instant
 */
export function traceLedger<Entry extends CreditEntry>(
  entries: readonly Entry[],
  at: Date,
): LedgerTrace<Entry> {
  const lots: Lot[] = [];
  const lotsOfReferral = new Map<string | null, Lot[]>();
  let firstUnspent = 0;
  let balance = NEVER_ANY;
  let last: Date | null = null;

  /** Lets time pass: credit that runs is spent, the oldest lot first. */
  const passUntil = (instant: Date): SpentPart[] => {
    const spent = last === null ? 0 : creditLeft(balance, last) - creditLeft(balance, instant);
    last = instant;
    const parts = takeFrom(lots, firstUnspent, spent);
    while (lots[firstUnspent]?.unspent === 0) firstUnspent += 1;
    return parts;
  };

  const steps = entries.map((entry) => {
    const spentBefore = passUntil(entry.at);
    balance = applyEntry(balance, entry);
    const { kind, seq, seconds, referralId } = entry;
    const ofReferral = lotsOfReferral.get(referralId) ?? [];
    if (kind === 'grant' || kind === 'restoration') {
      const lot = { seq, referralId, unspent: seconds };
      lots.push(lot);
      ofReferral.push(lot);
      lotsOfReferral.set(referralId, ofReferral);
    } else if (kind === 'reversal') {
      takeFrom(ofReferral, 0, seconds);
    }
    return { entry, spentBefore };
  });
  return { steps, spentSince: passUntil(at), lots };
}

/**
 * @param lots some lots
 * @returns the seconds that are left of them all
 */
export function unspentOf(lots: readonly Lot[]): number {
  return lots.reduce((sum, { unspent }) => sum + unspent, 0);
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

/**
 * @param balance what the ledger gives before an entry
 * @returns what it gives with that entry
 * @throws Error when the entry is of an unknown kind
 */
export function applyEntry(balance: CreditBalance, { kind, at, seconds }: CreditEntry): CreditBalance {
  switch (kind) {
    case 'hold':
      return held(balance, at);
    case 'resume':
      return resumed(balance, at);
    case 'grant':
    case 'restoration':
      return granted(balance, at, seconds);
    case 'reversal':
      return taken(balance, at, seconds);
    default:
      throw new Error(`The credit ledger holds an entry of the unknown kind ${kind}.`);
  }
}

/** Takes seconds from lots, the oldest first, and tells of which. */
function takeFrom(lots: readonly Lot[], from: number, seconds: number): SpentPart[] {
  const parts: SpentPart[] = [];
  let rest = seconds;
  for (let index = from; rest > 0 && index < lots.length; index += 1) {
    const lot = lots[index];
    if (!lot || lot.unspent === 0) continue;
    const part = Math.min(rest, lot.unspent);
    lot.unspent -= part;
    rest -= part;
    parts.push({ seq: lot.seq, seconds: part });
  }
  return parts;
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
