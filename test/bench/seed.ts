import Database from 'better-sqlite3';
import { Client } from 'pg';

import { hashToken } from '../../src/accounts/tokens.ts';
import { openDatabase } from '../../src/db/open.ts';
import { DAY_SECONDS } from '../../src/instants.ts';
import { instantFor, SESSION_SECRET } from './shared.ts';
import type { Engine } from './shared.ts';

/** The cookie that the reader of Settings sends. */
export const READER_TOKEN = 'the-session-of-the-benchmark';
export const READER = { email: 'past0@example.com', code: 'PAST0' };

/** How many people invited all the others. */
const REFERRERS = 1000;
/** So many of the past conversions are the reader's. */
const READERS_REFERRALS = 20;
const CHUNK = 5000;
const DAYS_45 = 45 * DAY_SECONDS;

export interface Seed {
  /** Referrals that converted, with everything that belongs to them. */
  past: number;
  /** Referred users with a customer who have not paid yet. */
  buyers: number;
  /** When the past was; the buyers signed up then, too. Epoch seconds. */
  at: number;
}

type Row = Record<string, string | number | boolean | null>;
type Insert = (table: string, rows: Row[]) => Promise<void>;

/** Makes the database's schema and fills it with rows as Tandem itself would have written them. */
export async function seed(databaseUrl: string, engine: Engine, { past, buyers, at }: Seed): Promise<void> {
  const { db } = await openDatabase(databaseUrl);
  await db.$disconnect();
  const { insert, finish } = engine === 'sqlite' ? onSqlite(databaseUrl) : await onPostgresql(databaseUrl);
  const instant = instantFor(engine);
  const when = instant(at);
  const until = (grants: number): string => instant(at + grants * DAYS_45);

  const referrerOf = (n: number): string =>
    n > 0 && n <= READERS_REFERRALS ? 'past0' : `referrer${n % REFERRERS}`;
  const grants = new Map<string, number>();
  for (let n = 0; n < past; n += 1) grants.set(referrerOf(n), (grants.get(referrerOf(n)) ?? 0) + 1);

  const user = (id: string, tier: string, given: number, holds: boolean): Row => ({
    id,
    email: `${id}@example.com`,
    emailHash: `hash of ${id}`,
    passwordHash: 'none',
    code: id.toUpperCase(),
    tier,
    creditUntil: given > 0 ? until(given) : null,
    creditHeldAt: holds ? when : null,
    creditEntryCount: given + Number(holds),
    creditEntryAt: given > 0 || holds ? when : null,
    createdAt: when,
  });
  const entry = (
    userId: string,
    seq: number,
    kind: string,
    referralId: string | null,
    causeId: string,
  ): Row => ({
    userId,
    seq,
    at: when,
    kind,
    seconds: kind === 'grant' ? DAYS_45 : 0,
    referralId,
    causeId,
  });
  const audit = (id: string, userId: string, causeId: string, change: Row): Row => ({
    id,
    userId,
    at: when,
    actor: 'stripe',
    causeId,
    fromTier: null,
    toTier: null,
    seconds: null,
    ...change,
  });

  const range = (from: number, to: number): number[] =>
    Array.from({ length: to - from }, (_, index) => from + index);
  await insert(
    'User',
    range(0, REFERRERS).map((n) => user(`referrer${n}`, 'free', grants.get(`referrer${n}`) ?? 0, false)),
  );
  const seqs = new Map<string, number>();
  const nextSeq = (id: string): number => {
    const seq = (seqs.get(id) ?? (id === 'past0' ? 2 : 0)) + 1;
    seqs.set(id, seq);
    return seq;
  };
  for (let from = 0; from < past; from += CHUNK) {
    const chunk = range(from, Math.min(past, from + CHUNK));
    await insert(
      'User',
      chunk.map((n) => user(`past${n}`, 'paid', 1 + (grants.get(`past${n}`) ?? 0), true)),
    );
    await insert(
      'Referral',
      chunk.map((n) => ({
        id: `pastreferral${n}`,
        referrerId: referrerOf(n),
        referredId: `past${n}`,
        referredHash: `hash of past${n}`,
        createdAt: when,
        convertedAt: when,
        creditedAt: when,
      })),
    );
    await insert(
      'CreditEntry',
      chunk.flatMap((n) => [
        entry(`past${n}`, 1, 'hold', null, `evt_past_${n}`),
        entry(`past${n}`, 2, 'grant', `pastreferral${n}`, `pastreferral${n}`),
        entry(referrerOf(n), nextSeq(referrerOf(n)), 'grant', `pastreferral${n}`, `pastreferral${n}`),
      ]),
    );
    await insert(
      'AuditRow',
      chunk.flatMap((n) => {
        const credit = { kind: 'credit', seconds: DAYS_45 };
        return [
          audit(`tier${n}`, `past${n}`, `evt_past_${n}`, { kind: 'tier', fromTier: 'free', toTier: 'paid' }),
          audit(`buyer${n}`, `past${n}`, `pastreferral${n}`, credit),
          audit(`referrer${n}`, referrerOf(n), `pastreferral${n}`, credit),
        ];
      }),
    );
    await insert(
      'Customer',
      chunk.map((n) => ({ id: `cus_past_${n}`, userId: `past${n}` })),
    );
    await insert(
      'Subscription',
      chunk.map((n) => ({
        id: `sub_past_${n}`,
        customerId: `cus_past_${n}`,
        status: 'active',
        createdAt: when,
        priceId: 'price_monthly',
        currentPeriodEnd: instant(at + 30 * DAY_SECONDS),
        cancelAtPeriodEnd: false,
        snapshotAt: when,
        snapshotEventId: `evt_past_${n}`,
        statusAt: when,
        needsReconcile: false,
        activeAt: when,
        checkoutUnpaid: false,
        provenAt: when,
      })),
    );
    await insert(
      'Event',
      chunk.map((n) => ({
        id: `evt_past_${n}`,
        type: 'customer.subscription.created',
        created: when,
        receivedAt: when,
        status: 'applied',
        payload: JSON.stringify({
          id: `evt_past_${n}`,
          data: { object: { id: `sub_past_${n}`, status: 'active' } },
        }),
        thinned: true,
        customerId: `cus_past_${n}`,
      })),
    );
  }
  for (let from = 0; from < buyers; from += CHUNK) {
    const chunk = range(from, Math.min(buyers, from + CHUNK));
    await insert(
      'User',
      chunk.map((n) => user(`buyer${n}`, 'free', 0, false)),
    );
    await insert(
      'Referral',
      chunk.map((n) => ({
        id: `referral${n}`,
        referrerId: `referrer${n % REFERRERS}`,
        referredId: `buyer${n}`,
        referredHash: `hash of buyer${n}`,
        createdAt: when,
      })),
    );
    await insert(
      'Customer',
      chunk.map((n) => ({ id: `cus_${n}`, userId: `buyer${n}` })),
    );
  }
  await insert('Session', [
    {
      tokenHash: hashToken(SESSION_SECRET, READER_TOKEN),
      userId: 'past0',
      expiresAt: instant(at + 30 * DAY_SECONDS),
    },
  ]);
  await finish();
}

function onSqlite(databaseUrl: string): { insert: Insert; finish: () => Promise<void> } {
  const database = new Database(databaseUrl.replace('file:', ''));
  database.pragma('synchronous = OFF');
  database.exec('BEGIN');
  const insert: Insert = (table, rows) => {
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
