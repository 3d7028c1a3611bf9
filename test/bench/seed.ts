import Database from 'better-sqlite3';
import { Client } from 'pg';

import { hashToken } from '../../src/accounts/tokens.ts';
import { databasePath, openDatabase } from '../../src/db/open.ts';
import { DAY_SECONDS } from '../../src/instants.ts';
import { instantFor, SESSION_SECRET, stripeIdOf, userIdOf } from './shared.ts';
import type { Engine } from './shared.ts';

/** The user who reads Settings: a subscription, held credit and invitations. */
export const READER = {
  name: 'past0',
  email: 'reader@example.com',
  code: 'READER',
  /** The reader's cookie. */
  token: 'the-session-of-the-benchmark',
};

/** How many referrers there are. Each has a converted referral once 1,000 have converted. */
const REFERRERS = 500;
/** How many of the past conversions are the reader's. */
const READERS_REFERRALS = 20;
const CHUNK = 5000;
const DAYS_45 = 45 * DAY_SECONDS;

export interface Seed {
  /** Converted referrals, with everything that belongs to them. */
  past: number;
  /** Referred users with a customer who have not yet paid. */
  buyers: number;
  /** When the past conversions happened and the buyers signed up, epoch seconds. */
  at: number;
}

type Row = Record<string, string | number | boolean | null>;
type Insert = (table: string, rows: Row[]) => Promise<void>;

/** A converted referral, as names. */
interface Conversion {
  buyer: string;
  referrer: string;
  /** The referrer's ledger entry for it. */
  seq: number;
}

/** Creates the database's schema and fills it with the rows that Tandem itself would have written. */
export async function seed(databaseUrl: string, engine: Engine, { past, buyers, at }: Seed): Promise<void> {
  const { db } = await openDatabase(databaseUrl);
  await db.$disconnect();
  const { insert, finish } = engine === 'sqlite' ? onSqlite(databaseUrl) : await onPostgresql(databaseUrl);
  const rows = rowsOf(engine, at);

  // Referrers first: a referral refers to both users.
  const counts = new Map<string, number>();
  for (let n = 0; n < past; n += 1) nextEntry(counts, inviterOf(n));
  const inviters = [...range(0, REFERRERS).map(referrerOf), READER.name];
  await insert(
    'User',
    inviters.map((name) => rows.user(name, counts.get(name) ?? 0, name === READER.name)),
  );

  const entries = new Map<string, number>();
  for (let from = 0; from < past; from += CHUNK) {
    const chunk = range(from, Math.min(past, from + CHUNK)).map((n): Conversion => {
      const referrer = inviterOf(n);
      return {
        buyer: `past${n}`,
        referrer,
        seq: nextEntry(entries, referrer),
      };
    });
    for (const [table, of] of Object.entries(rows.past)) await insert(table, chunk.flatMap(of));
  }
  for (let from = 0; from < buyers; from += CHUNK) {
    const chunk = range(from, Math.min(buyers, from + CHUNK));
    for (const [table, of] of Object.entries(rows.buyer)) await insert(table, chunk.map(of));
  }
  await insert('Session', [rows.session]);
  await finish();
}

/** A buyer's ledger begins with a hold and the grant of their own conversion. */
function nextEntry(entries: Map<string, number>, name: string): number {
  const seq = (entries.get(name) ?? (name === READER.name ? 2 : 0)) + 1;
  entries.set(name, seq);
  return seq;
}

/** The referrer of past conversion n. */
function inviterOf(n: number): string {
  return n > 0 && n <= READERS_REFERRALS ? READER.name : referrerOf(n);
}

function referrerOf(n: number): string {
  return `referrer${n % REFERRERS}`;
}

function range(from: number, to: number): number[] {
  return Array.from({ length: to - from }, (_, index) => from + index);
}

/** What makes the rows of each table; all rows of a table have the same columns. */
function rowsOf(engine: Engine, at: number) {
  const instant = instantFor(engine);
  const when = instant(at);

  const user = (name: string, entryCount: number, paid: boolean): Row => {
    const grants = paid ? entryCount - 1 : entryCount;
    return {
      id: userIdOf(name),
      email: name === READER.name ? READER.email : `${name}@example.com`,
      emailHash: stripeIdOf('hash', name),
      passwordHash: 'none',
      code: name === READER.name ? READER.code : userIdOf(name).toUpperCase(),
      tier: paid ? 'paid' : 'free',
      creditUntil: grants > 0 ? instant(at + grants * DAYS_45) : null,
      creditHeldAt: paid ? when : null,
      creditEntryCount: entryCount,
      creditEntryAt: entryCount > 0 ? when : null,
      // Marks past news as seen: the page would announce it once and never again.
      creditEntriesSeen: entryCount,
      createdAt: when,
    };
  };
  const referral = (referred: string, referrer: string, convertedAt: string | null): Row => ({
    id: userIdOf(`referral of ${referred}`),
    referrerId: userIdOf(referrer),
    referredId: userIdOf(referred),
    referredHash: convertedAt === null ? null : stripeIdOf('hash', referred),
    createdAt: when,
    convertedAt,
    creditedAt: convertedAt,
  });
  const customer = (name: string): Row => ({
    id: stripeIdOf('cus', name),
    userId: userIdOf(name),
  });
  const entry = (name: string, seq: number, of: Conversion): Row => ({
    userId: userIdOf(name),
    seq,
    at: when,
    kind: 'grant',
    seconds: DAYS_45,
    referralId: userIdOf(`referral of ${of.buyer}`),
    causeId: userIdOf(`referral of ${of.buyer}`),
  });
  const audit = (name: string, of: Conversion): Row => ({
    id: userIdOf(`audit of ${name}, ${of.buyer}`),
    userId: userIdOf(name),
    at: when,
    actor: 'stripe',
    kind: 'credit',
    fromTier: null,
    toTier: null,
    seconds: DAYS_45,
    causeId: userIdOf(`referral of ${of.buyer}`),
  });

  const past: Record<string, (conversion: Conversion) => Row[]> = {
    User: ({ buyer }) => (buyer === READER.name ? [] : [user(buyer, 2, true)]),
    Referral: ({ buyer, referrer }) => [referral(buyer, referrer, when)],
    CreditEntry: (of) => {
      const causeId = stripeIdOf('evt', of.buyer);
      const grant = entry(of.buyer, 2, of);
      const hold = {
        ...grant,
        seq: 1,
        kind: 'hold',
        seconds: 0,
        referralId: null,
        causeId,
      };
      return [hold, grant, entry(of.referrer, of.seq, of)];
    },
    AuditRow: (of) => {
      const id = userIdOf(`audit of tier, ${of.buyer}`);
      const causeId = stripeIdOf('evt', of.buyer);
      const credit = audit(of.buyer, of);
      const tier = {
        ...credit,
        id,
        kind: 'tier',
        fromTier: 'free',
        toTier: 'paid',
        seconds: null,
        causeId,
      };
      return [tier, credit, audit(of.referrer, of)];
    },
    Customer: ({ buyer }) => [customer(buyer)],
    Subscription: ({ buyer }) => [
      {
        id: stripeIdOf('sub', buyer),
        customerId: stripeIdOf('cus', buyer),
        status: 'active',
        createdAt: when,
        priceId: 'price_monthly',
        currentPeriodEnd: instant(at + 30 * DAY_SECONDS),
        cancelAtPeriodEnd: false,
        snapshotAt: when,
        snapshotEventId: stripeIdOf('evt', buyer),
        statusAt: when,
        givesSince: when,
        needsReconcile: false,
        activeAt: when,
        checkoutUnpaid: false,
        provenAt: when,
        firstPaidAt: when,
      },
    ],
    Invoice: ({ buyer }) => [
      {
        id: stripeIdOf('in', buyer),
        subscriptionId: stripeIdOf('sub', buyer),
        first: true,
        positive: true,
        paidAt: when,
      },
    ],
    Payment: ({ buyer }) => [{ id: stripeIdOf('pi', buyer), invoiceId: stripeIdOf('in', buyer) }],
    Event: ({ buyer }) => {
      const [id, customerId] = [stripeIdOf('evt', buyer), stripeIdOf('cus', buyer)];
      const object = {
        id: stripeIdOf('sub', buyer),
        customer: customerId,
        status: 'active',
        created: at,
      };
      const type = 'customer.subscription.created';
      return [
        {
          id,
          type,
          created: when,
          receivedAt: when,
          status: 'applied',
          payload: JSON.stringify({
            id,
            type,
            created: at,
            livemode: false,
            data: { object },
          }),
          thinned: true,
          customerId,
        },
      ];
    },
  };
  const buyer: Record<string, (n: number) => Row> = {
    User: (n) => user(`buyer${n}`, 0, false),
    Referral: (n) => referral(`buyer${n}`, referrerOf(n), null),
    Customer: (n) => customer(`buyer${n}`),
  };
  const session: Row = {
    tokenHash: hashToken(SESSION_SECRET, READER.token),
    userId: userIdOf(READER.name),
    expiresAt: instant(at + 30 * DAY_SECONDS),
  };
  return { user, past, buyer, session };
}

function onSqlite(databaseUrl: string): {
  insert: Insert;
  finish: () => Promise<void>;
} {
  const database = new Database(databasePath(databaseUrl));
  // A large cache (KiB), so that a million scattered rows are assembled in memory and written once.
  database.pragma('synchronous = OFF');
  database.pragma('cache_size = -2000000');
  database.exec('BEGIN');
  const insert: Insert = (table, rows) => {
    if (rows.length === 0) return Promise.resolve();
    const columns = Object.keys(rows[0] ?? {});
    const names = columns.map((column) => `"${column}"`).join(', ');
    const holes = columns.map(() => '?').join(', ');
    const statement = database.prepare(`INSERT INTO "${table}" (${names}) VALUES (${holes})`);
    for (const row of rows) {
      statement.run(
        columns.map((column) => (typeof row[column] === 'boolean' ? Number(row[column]) : row[column])),
      );
    }
    return Promise.resolve();
  };
  const finish = (): Promise<void> => {
    database.exec('COMMIT');
    database.pragma('wal_checkpoint(TRUNCATE)');
    database.close();
    return Promise.resolve();
  };
  return { insert, finish };
}

async function onPostgresql(databaseUrl: string): Promise<{ insert: Insert; finish: () => Promise<void> }> {
  const client = new Client({ connectionString: databaseUrl });
  await client.connect();
  const insert: Insert = async (table, rows) => {
    if (rows.length === 0) return;
    const names = Object.keys(rows[0] ?? {})
      .map((column) => `"${column}"`)
      .join(', ');
    await client.query(
      `INSERT INTO "${table}" (${names}) SELECT ${names} FROM json_populate_recordset(NULL::"${table}", $1::json)`,
      [JSON.stringify(rows)],
    );
  };
  const finish = async (): Promise<void> => {
    await client.query('ANALYZE');
    await client.end();
  };
  return { insert, finish };
}
