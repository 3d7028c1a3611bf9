import { Prisma } from '../db/generated/client.ts';
import type { User } from '../db/generated/client.ts';
import type { Reader } from '../db/transaction.ts';
import { addSeconds, DAY_SECONDS } from '../instants.ts';
import { remember } from '../remember.ts';
import { REFERRAL_CREDIT_DAYS } from './convert.ts';

export interface ReferralCounts {
  /** Users who signed up with the code; of those who have not converted, at most `MOST_OPEN` are counted. */
  invited: number;
  /** Those who converted and are not reversed. */
  converted: number;
  /** Of the converted, those credited within the last `REFERRAL_CREDIT_DAYS`. */
  activeCredits: number;
}

const ACTIVE_SECONDS = REFERRAL_CREDIT_DAYS * DAY_SECONDS;

/** When a referral stops counting under `activeCredits`; null if it has stopped, or never converted. */
export function activeUntil(convertedAt: Date | null, now: Date): Date | null {
  const until = convertedAt && addSeconds(convertedAt, ACTIVE_SECONDS);
  return until && until >= now ? until : null;
}

/**
 * Users with at least this many conversions have their counts cached: counting then takes longer than the rest of the
 * page.
 */
const MANY = 100;

/** Anybody can sign up with a published code thousands of times, and counting must stay quick. */
export const MOST_OPEN = 10_000;

/** How many accounts' counts are cached. */
const KEPT = 1_000;

/** The cached counts of converted referrals. */
interface Counted {
  /**
   * The length of the user's ledger when they were counted. Every conversion, reversal and restoration adds an entry
   * to it, and so invalidates the counts.
   */
  entryCount: number;
  /** `activeCredits` is valid between these instants; a null `until` means for ever. */
  from: Date;
  until: Date | null;
  /** Converted, reversed or not. */
  credited: number;
  converted: number;
  activeCredits: number;
}

const countedOf = new WeakMap<Reader, Map<string, Counted>>();

/**
 * Counts a user's referrals for Settings. With many conversions, only the open invitations are counted each time; the
 * rest is cached until it can have changed.
 */
export async function countReferrals(
  db: Reader,
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

async function countOpen(db: Reader, referrerId: string): Promise<number> {
  const [{ open }] = await db.$queryRaw<[{ open: bigint }]>`
    SELECT count(*) AS "open" FROM ${openOf(referrerId)}`;
  return Number(open);
}

function openOf(referrerId: string): Prisma.Sql {
  return Prisma.sql`(SELECT 1 FROM "Referral" WHERE "referrerId" = ${referrerId} AND "creditedAt" IS NULL
    LIMIT ${MOST_OPEN}) AS o`;
}

async function countAll(
  db: Reader,
  { id, creditEntryCount }: Pick<User, 'id' | 'creditEntryCount'>,
  now: Date,
): Promise<Counted & { open: number }> {
  const since = addSeconds(now, -ACTIVE_SECONDS);
  interface Row extends Record<'open' | 'credited' | 'converted' | 'activeCredits', bigint> {
    /** A string on SQLite, which does not know the type of an expression. */
    firstActive: Date | string | null;
  }
  // creditedAt is set exactly when convertedAt is, and the index contains it.
  const [row] = await db.$queryRaw<[Row]>`
    SELECT (SELECT count(*) FROM ${openOf(id)}) AS "open", count(*) AS "credited",
      count(CASE WHEN "reversedAt" IS NULL THEN 1 END) AS "converted",
      count(CASE WHEN "creditedAt" >= ${since} AND "reversedAt" IS NULL THEN 1 END) AS "activeCredits",
      min(CASE WHEN "creditedAt" >= ${since} AND "reversedAt" IS NULL THEN "creditedAt" END) AS "firstActive"
    FROM "Referral" WHERE "referrerId" = ${id} AND "creditedAt" IS NOT NULL`;
  return {
    entryCount: creditEntryCount,
    from: now,
    until: row.firstActive === null ? null : addSeconds(new Date(row.firstActive), ACTIVE_SECONDS),
    open: Number(row.open),
    credited: Number(row.credited),
    converted: Number(row.converted),
    activeCredits: Number(row.activeCredits),
  };
}
