import { setImmediate as nextTurn } from 'node:timers/promises';

import type { CreditEntry } from '../db/generated/client.ts';
import type { Db } from '../db/transaction.ts';
import { later } from '../instants.ts';
import { remember } from '../remember.ts';
import { creditLeft } from './balance.ts';
import type { CreditBalance } from './balance.ts';
import type { Spending } from './fold.ts';
import { applyEntry, NO_CREDIT } from './fold.ts';

/** A line of a ledger's recent history. Spending is not split by grant: that would need the whole ledger. */
export type RecentLine<Entry extends CreditEntry = CreditEntry> =
  | { kind: 'entry'; entry: Entry }
  | Pick<Spending, 'kind' | 'from' | 'seconds'>;

/** The state after one entry. The ledger is append-only, so it never changes and can be cached. */
export interface LedgerPoint {
  /** The entry's number; 0 before the first. */
  seq: number;
  /** The entry's instant; null before the first. */
  at: Date | null;
  balance: CreditBalance;
  /** How many lines the history has up to this entry. */
  lines: number;
}

const BEGINNING: LedgerPoint = { seq: 0, at: null, balance: NO_CREDIT, lines: 0 };

/** History starts at a sequence number that is a multiple of this, so that most views find the point in the cache. */
const STEP = 50;

/** How many users' points are cached. */
const KEPT = 1_000;

/** How many entries are folded in one turn of the event loop. */
const CHUNK = 500;

const pointsOf = new WeakMap<Db, Map<string, LedgerPoint>>();

/**
 * Finds where to start so that the newest lines can be shown without reading the whole ledger. A long ledger is
 * folded once, and after that only its new entries are.
 *
 * @param lines how many lines are wanted
 * @returns a point with at least that many entries after it, and at most 50 more; or the beginning
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
 * The history from a point on: every entry, and how much credit was spent in between.
 *
 * @param entries all entries after the point, in order of their sequence numbers
 * @param at end of the history, UTC; the last entry if that is later (another machine's clock may be ahead)
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

/** What was spent since an entry; empty when nothing was. */
function spending(
  { at: from, balance }: LedgerPoint,
  until: Date,
): Pick<Spending, 'kind' | 'from' | 'seconds'>[] {
  if (from === null) return [];
  const seconds = creditLeft(balance, from) - creditLeft(balance, until);
  return seconds > 0 ? [{ kind: 'spent', from, seconds }] : [];
}
