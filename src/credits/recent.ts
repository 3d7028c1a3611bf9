import { setImmediate as nextTurn } from 'node:timers/promises';

import type { CreditEntry } from '../db/generated/client.ts';
import type { Db } from '../db/transaction.ts';
import { later } from '../instants.ts';
import { remember } from '../remember.ts';
import { creditLeft } from './balance.ts';
import type { CreditBalance } from './balance.ts';
import type { Spending } from './fold.ts';
import { applyEntry, NEVER_ANY } from './fold.ts';

/** A line of a ledger's story, without the grants that were spent: to know these, all of the ledger must be folded. */
export type RecentLine<Entry extends CreditEntry = CreditEntry> =
  | { kind: 'entry'; entry: Entry }
  | Pick<Spending, 'kind' | 'from' | 'seconds'>;

/** What one entry of a ledger left behind. The ledger is append-only, so this never changes. */
export interface LedgerPoint {
  /** The entry's number; 0 before the first. */
  seq: number;
  /** The entry's instant; null before the first. */
  at: Date | null;
  balance: CreditBalance;
  /** How many lines the story has up to this entry. */
  lines: number;
}

const BEGINNING: LedgerPoint = { seq: 0, at: null, balance: NEVER_ANY, lines: 0 };

/** A story is told from an entry whose number is a multiple of this, so that most views find that point kept. */
const STEP = 50;

/** Users of whom a point is kept: those with a long ledger who looked at it. */
const KEPT = 1_000;

/** Entries folded in one turn of the event loop, when a long ledger is met for the first time. */
const CHUNK = 500;

const pointsOf = new WeakMap<Db, Map<string, LedgerPoint>>();

/**
 * Finds where to begin so that the newest lines of a ledger can be told without reading all of it. The first time that a
 * long ledger is asked for, its old entries are folded once; from then on no more than the new ones are.
 *
 * @param db the database
 * @param userId whose ledger
 * @param entryCount how many entries it has
 * @param lines how many lines are wanted
 * @returns a point with at least that many entries after it, or the beginning; and at most 50 more
 */
export async function pointBefore(
  db: Db,
  userId: string,
  entryCount: number,
  lines: number,
): Promise<LedgerPoint> {
  const seq = Math.floor((entryCount - lines) / STEP) * STEP;
  if (seq <= 0) return BEGINNING;
  const points = pointsOf.get(db) ?? new Map<string, LedgerPoint>();
  pointsOf.set(db, points);
  const kept = points.get(userId);
  let point = kept && kept.seq <= seq ? kept : BEGINNING;
  if (point.seq === seq) return point;
  for (let after = point.seq; after < seq; after += CHUNK) {
    const entries = await db.$queryRaw<CreditEntry[]>`
      SELECT * FROM "CreditEntry"
      WHERE "userId" = ${userId} AND "seq" > ${after} AND "seq" <= ${Math.min(seq, after + CHUNK)} ORDER BY "seq"`;
    point = entries.reduce(pass, point);
    await nextTurn();
  }
  return remember(points, userId, point, KEPT);
}

/**
 * Tells a ledger from one of its points on: every entry, and between them how much credit was spent.
 *
 * @param point where to begin
 * @param entries all entries after it, in the order of their sequence numbers
 * @param at until when, UTC; until the last entry when that is later, which another machine's clock can have made
 * @returns the lines in order
 */
export function linesSince<Entry extends CreditEntry>(
  point: LedgerPoint,
  entries: readonly Entry[],
  at: Date,
): RecentLine<Entry>[] {
  const lines: RecentLine<Entry>[] = [];
  let last = point;
  for (const entry of entries) {
    lines.push(...spending(last, entry.at), { kind: 'entry', entry });
    last = pass(last, entry);
  }
  lines.push(...spending(last, later(at, last.at)));
  return lines;
}

function pass(point: LedgerPoint, entry: CreditEntry): LedgerPoint {
  return {
    seq: entry.seq,
    at: entry.at,
    balance: applyEntry(point.balance, entry),
    lines: point.lines + spending(point, entry.at).length + 1,
  };
}

/** What was spent since an entry: no line when that is nothing. */
function spending(
  { at: from, balance }: LedgerPoint,
  until: Date,
): Pick<Spending, 'kind' | 'from' | 'seconds'>[] {
  if (from === null) return [];
  const seconds = creditLeft(balance, from) - creditLeft(balance, until);
  return seconds > 0 ? [{ kind: 'spent', from, seconds }] : [];
}
