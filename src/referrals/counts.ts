import type { User } from '../db/generated/client.ts';
import type { Db } from '../db/transaction.ts';
import { REFERRAL_CREDIT_DAYS } from './convert.ts';
import { addSeconds, DAY_SECONDS } from '../instants.ts';
import { remember } from '../remember.ts';

export interface ReferralCounts {
  /** Signed up with the user's code. */
  invited: number;
  /** Of these, converted and not reversed. */
  converted: number;
  /** Of these, credited within the last 45 days. */
  activeCredits: number;
}

const ACTIVE_SECONDS = REFERRAL_CREDIT_DAYS * DAY_SECONDS;

/** From this many conversions on, an account's counts are kept, because counting takes longer than the rest of a page. */
const MANY = 100;

/** Accounts whose counts are kept. */
const KEPT = 1_000;

/** What was counted of the referrals that have converted. */
interface Counted {
  /** The user's ledger then: every conversion, reversal and restoration adds an entry to it. */
  entryCount: number;
  /** Between these instants the active credits are the same. Null: for ever. */
  from: Date;
  until: Date | null;
  /** Converted, reversed or not. */
  credited: number;
  converted: number;
  activeCredits: number;
}

const countedOf = new WeakMap<Db, Map<string, Counted>>();

/**
 * Counts a user's referrals. Where many have converted they are counted anew only when that can have changed; only the
 * invitations that are still open are counted each time.
 *
 * @param db the database
 * @param user the referrer
 * @param now the instant to count at, UTC
 * @returns what Settings shows of them
 */
export async function countReferrals(
  db: Db,
  user: Pick<User, 'id' | 'creditEntryCount'>,
  now: Date,
): Promise<ReferralCounts> {
  const kept = countedOf.get(db)?.get(user.id);
  if (kept && isGood(kept, user.creditEntryCount, now)) {
    const { credited, converted, activeCredits } = kept;
    return { invited: credited + (await countOpen(db, user.id)), converted, activeCredits };
  }
  const { open, ...counted } = await countAll(db, user, now);
  if (counted.credited >= MANY) {
    const all = countedOf.get(db) ?? new Map<string, Counted>();
    countedOf.set(db, all);
    remember(all, user.id, counted, KEPT);
  }
  const { credited, converted, activeCredits } = counted;
  return { invited: credited + open, converted, activeCredits };
}

function isGood({ entryCount, from, until }: Counted, entryCountNow: number, now: Date): boolean {
  return entryCount === entryCountNow && now >= from && (until === null || now <= until);
}

async function countOpen(db: Db, referrerId: string): Promise<number> {
  const [{ open }] = await db.$queryRaw<[{ open: bigint }]>`
    SELECT count(*) AS "open" FROM "Referral" WHERE "referrerId" = ${referrerId} AND "creditedAt" IS NULL`;
  return Number(open);
}

async function countAll(
  db: Db,
  { id, creditEntryCount }: Pick<User, 'id' | 'creditEntryCount'>,
  now: Date,
): Promise<Counted & { open: number }> {
  const since = addSeconds(now, -ACTIVE_SECONDS);
  interface Row extends Record<'invited' | 'credited' | 'converted' | 'activeCredits', bigint> {
    /** Text on SQLite, which knows no type of an expression. */
    firstActive: Date | string | null;
  }
  // creditedAt is set exactly when convertedAt is, and the index holds it.
  const [row] = await db.$queryRaw<[Row]>`
    SELECT count(*) AS "invited", count("creditedAt") AS "credited",
      count(CASE WHEN "creditedAt" IS NOT NULL AND "reversedAt" IS NULL THEN 1 END) AS "converted",
      count(CASE WHEN "creditedAt" >= ${since} AND "reversedAt" IS NULL THEN 1 END) AS "activeCredits",
      min(CASE WHEN "creditedAt" >= ${since} AND "reversedAt" IS NULL THEN "creditedAt" END) AS "firstActive"
    FROM "Referral" WHERE "referrerId" = ${id}`;
  return {
    entryCount: creditEntryCount,
    from: now,
    until: row.firstActive === null ? null : addSeconds(new Date(row.firstActive), ACTIVE_SECONDS),
    open: Number(row.invited - row.credited),
    credited: Number(row.credited),
    converted: Number(row.converted),
    activeCredits: Number(row.activeCredits),
  };
}
