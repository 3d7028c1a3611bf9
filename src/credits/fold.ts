import type { CreditEntry, User } from '../db/generated/client.ts';
import { creditLeft, granted, held, resumed, taken } from './balance.ts';
import type { CreditBalance } from './balance.ts';

/** The balance before the first entry. */
export const NO_CREDIT: CreditBalance = { creditUntil: null, creditHeldAt: null };

/**
 * The balance that a user's row must hold.
 *
 * @param entries one user's entries, in order of their sequence numbers
 */
export function foldLedger(entries: readonly CreditEntry[]): CreditBalance {
  return entries.reduce(applyEntry, NO_CREDIT);
}

/**
 * Seconds of a referral's credit (its grant and restorations) that are unspent at an instant.
 *
 * @param entries one user's entries, in order of their sequence numbers
 * @param at UTC, not before the last entry
 */
export function unspentOfReferral(entries: readonly CreditEntry[], referralId: string, at: Date): number {
  return unspentOf(traceLedger(entries, at).lots.filter((lot) => lot.referralId === referralId));
}

/** A grant or restoration, with its unspent seconds. */
export interface Lot {
  /** Sequence number of its entry. */
  seq: number;
  referralId: string | null;
  unspent: number;
}

/** How much of one grant or restoration was spent. */
export interface SpentPart {
  /** Sequence number of its entry. */
  seq: number;
  seconds: number;
}

/** Credit spent during a stretch of time, and from which grants. */
export interface Spending {
  kind: 'spent';
  from: Date;
  until: Date;
  seconds: number;
  /** Oldest grant or restoration first. */
  of: SpentPart[];
}

/** An entry, and what was spent since the entry before it, oldest grant first. */
export interface LedgerStep<Entry extends CreditEntry = CreditEntry> {
  entry: Entry;
  spentBefore: SpentPart[];
}

/** A ledger's history from its start to an instant. */
export interface LedgerTrace<Entry extends CreditEntry = CreditEntry> {
  steps: LedgerStep<Entry>[];
  /** What was spent between the last entry and that instant, oldest grant first. */
  spentSince: SpentPart[];
  /** What is left at that instant, oldest grant first. */
  lots: readonly Readonly<Lot>[];
}

/**
 * Replays a ledger step by step. Linear in the number of entries, because spent lots are skipped.
 *
 * @param entries one user's entries, in order of their sequence numbers
 * @param at UTC, not before the last entry
 */
export function traceLedger<Entry extends CreditEntry>(
  entries: readonly Entry[],
  at: Date,
): LedgerTrace<Entry> {
  const lots: Lot[] = [];
  const lotsOfReferral = new Map<string | null, Lot[]>();
  let firstUnspent = 0;
  let balance = NO_CREDIT;
  let last: Date | null = null;

  /** Spends the credit that ran until an instant, oldest lot first. */
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

/** Unspent seconds of all these lots together. */
export function unspentOf(lots: readonly Lot[]): number {
  return lots.reduce((sum, { unspent }) => sum + unspent, 0);
}

/**
 * Checks the invariants of one user's ledger (README.md lists them).
 *
 * @param entries all of the user's entries, in order of their sequence numbers
 * @returns a sentence for each broken invariant; empty when all hold
 */
export function checkLedger(
  user: Pick<User, 'creditUntil' | 'creditHeldAt' | 'creditEntryCount' | 'creditEntryAt' | 'tier'>,
  entries: readonly CreditEntry[],
): string[] {
  const broken: string[] = [];
  const expect = (holds: boolean, otherwise: string): void => {
    if (!holds) broken.push(otherwise);
  };

  expect(
    user.creditEntryCount === entries.length,
    'creditEntryCount differs from the number of ledger entries',
  );
  expect(
    sameInstant(user.creditEntryAt, entries.at(-1)?.at ?? null),
    "creditEntryAt differs from the last entry's instant",
  );
  expect(
    entries.every((entry, index) => entry.seq === index + 1),
    'the sequence numbers are not 1, 2, 3 …',
  );
  expect(
    entries.every((entry, index) => index === 0 || entry.at >= (entries[index - 1]?.at ?? entry.at)),
    'an entry is earlier than its predecessor',
  );
  const balance = foldLedger(entries);
  expect(sameInstant(balance.creditUntil, user.creditUntil), 'the ledger gives a different creditUntil');
  expect(sameInstant(balance.creditHeldAt, user.creditHeldAt), 'the ledger gives a different creditHeldAt');
  expect(
    (user.tier === 'paid') === (user.creditHeldAt !== null),
    'credit is held but the tier is not paid, or the other way round',
  );
  expect(reversalsAlternate(entries), 'a reversal and its restoration do not match');
  return broken;
}

/**
 * The balance after one more entry.
 *
 * @throws Error when the entry's kind is unknown
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
      throw new Error(`The credit ledger has an entry of the unknown kind ${kind}.`);
  }
}

/** Takes seconds from the lots, oldest first, and returns the parts. */
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

/** For each referral: a grant, then reversals and restorations in turn, each restoration returning what was taken. */
function reversalsAlternate(entries: readonly CreditEntry[]): boolean {
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
