import { copyFile, readdir, readFile, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';

import Database from 'better-sqlite3';
import { beforeAll, describe, expect, test } from 'vitest';

import { readConfig } from '../src/config.ts';
import { Prisma } from '../src/db/generated/client.ts';
import { migrationNames } from '../src/db/migrate.ts';
import { databasePath, openDatabase } from '../src/db/open.ts';
import type { Db } from '../src/db/transaction.ts';
import { doctor } from '../src/operator/doctor.ts';
import { explain } from '../src/operator/explain.ts';
import { grantCredit } from '../src/operator/grant-credit.ts';
import { migrateTo } from '../src/operator/migrate-to.ts';
import { resetLink } from '../src/operator/reset-link.ts';
import { user } from '../src/operator/user.ts';
import { commandContext } from './support/command-context.ts';
import { makeOlder, otherConnection, refuseWrites } from './support/other-connection.ts';
import { emptyFolder, runCli } from './support/process.ts';
import { refusalOf } from './support/refusal.ts';
import {
  daysAfter,
  deleteAccount,
  deliver,
  deliverAll,
  newDatabase,
  newEmptyDatabase,
  SESSION_SECRET,
  signUp,
  startTestServer,
} from './support/server.ts';
import type { TestServer } from './support/server.ts';
import { buyer } from './support/stripe-events.ts';

const TABLES = Object.values(Prisma.ModelName);

let sqliteTemplate = '';
beforeAll(async () => {
  const folder = await emptyFolder();
  sqliteTemplate = join(folder, 'tandem.db');
  const { db } = await openDatabase(`file:${sqliteTemplate}`);
  await db.$disconnect();
});

/** The URL of a migrated, empty SQLite database. */
async function newSource(): Promise<string> {
  const path = join(await emptyFolder(), 'tandem.db');
  await copyFile(sqliteTemplate, path);
  return `file:${path}`;
}

const copy = (source: string, target: string) =>
  migrateTo(readConfig({ DATABASE_URL: source, SESSION_SECRET }), target);

const refusal = (source: string, target: string) => refusalOf(copy(source, target));

/** Changes a SQLite database past its constraints. */
function change(source: string, statements: string): void {
  const database = new Database(databasePath(source));
  database.exec(`PRAGMA foreign_keys = OFF; ${statements}`);
  database.close();
}

const AN_ACCOUNT = `
  INSERT INTO "User" ("id", "email", "emailHash", "passwordHash", "code", "tier", "creditEntryCount", "createdAt")
  VALUES ('u', 'ann@example.com', 'h', 'p', 'ANN', 'free', 0, '2027-01-10T09:00:00.000+00:00')`;

/** A source with an account and two settings. */
async function smallSource(): Promise<string> {
  const source = await newSource();
  change(source, `INSERT INTO "Setting" VALUES ('a', 'x'), ('b', 'x'); ${AN_ACCOUNT}`);
  return source;
}

/** A source with an account, made by a version that did not have the two newest migrations. */
async function olderSource(): Promise<string> {
  const source = `file:${join(await emptyFolder(), 'tandem.db')}`;
  const folder = join(import.meta.dirname, '../prisma');
  const names = (await migrationNames(folder)).slice(0, -2);
  for (const name of names) {
    change(source, await readFile(join(folder, 'migrations', name, 'migration.sql'), 'utf8'));
  }
  const template = new Database(sqliteTemplate, { readonly: true });
  const noted = template.prepare(`SELECT "sql" FROM "sqlite_master" WHERE "name" = '_prisma_migrations'`);
  change(
    source,
    `${String(noted.pluck().get())};
     ATTACH '${sqliteTemplate}' AS "newest";
     INSERT INTO "_prisma_migrations" SELECT * FROM "newest"."_prisma_migrations"
       WHERE "migration_name" IN ('${names.join(`', '`)}');
     ${AN_ACCOUNT}`,
  );
  template.close();
  return source;
}

/** The row count of each table that has rows. */
async function rowCounts(databaseUrl: string): Promise<Record<string, number>> {
  const { rows, close } = await otherConnection({ databaseUrl });
  const counts: [string, number][] = [];
  for (const table of TABLES) {
    const [row] = await rows(`SELECT count(*) AS "count" FROM "${table}"`);
    if (Number(row?.['count']) > 0) counts.push([table, Number(row?.['count'])]);
  }
  await close();
  return Object.fromEntries(counts);
}

/** Every row of every table as the client reads it, in no particular order. */
async function allRows(db: Db): Promise<Record<string, string[]>> {
  const tables = db as unknown as Record<string, { findMany: () => Promise<object[]> }>;
  const read = TABLES.map(async (table) => {
    const rows = (await tables[table.charAt(0).toLowerCase() + table.slice(1)]?.findMany()) ?? [];
    return [table, rows.map((row) => JSON.stringify(row)).sort()] as const;
  });
  return Object.fromEntries(await Promise.all(read));
}

/**
 * A server on SQLite with rows in every table: conversions, one refunded, one disputed and won, operator credit, a
 * failed event, an open checkout, a reset link, a deleted account, and many small and large events.
 */
async function fullServer(): Promise<TestServer & { cookie: string }> {
  const server = await startTestServer({
    DATABASE_URL: await newSource(),
    SMTP_URL: 'smtp://127.0.0.1',
    MAIL_FROM: 'hello@tandem.test',
  });
  const referrer = await signUp(server, 'referrer@example.com');
  const friend = async (email: string) => {
    const person = await signUp(server, email, referrer.code);
    const stripe = buyer(person.id);
    await deliverAll(server, [
      stripe.checkoutCompleted(),
      stripe.created(),
      stripe.invoicePaid(),
      stripe.invoicePaymentPaid(),
    ]);
    return stripe;
  };
  await friend('paying@example.com');
  const refunded = await friend('refunded@example.com');
  const disputed = await friend('disputed@example.com');
  const leaving = await signUp(server, 'leaving@example.com', referrer.code);
  await grantCredit(commandContext(server), referrer.email, 10, 'sorry — “ünï” 🙂');

  server.clock.now = daysAfter(10);
  const dispute = disputed.dispute(daysAfter(9));
  await deliverAll(server, [refunded.chargeRefunded({}, { at: daysAfter(10) }), dispute.lost(daysAfter(9))]);
  await deliverAll(server, [dispute.wonAfterAll(daysAfter(10))]);
  const refused = await refuseWrites(server, 'UPDATE', 'Subscription');
  expect((await deliver(server, refunded.ended(daysAfter(10)))).statusCode).toBe(500);
  await refused.lift();
  await deleteAccount(server, leaving);
  await resetLink(commandContext(server), 'paying@example.com');
  const at = `'2027-01-10T09:00:00.000+00:00'`;
  change(
    server.databaseUrl,
    `INSERT INTO "FormerAddress" VALUES ('${referrer.id}', 'another hash');
     INSERT INTO "Backup" VALUES ('backup', '${referrer.id}', 1, '{"note":"für später"}', ${at});
     INSERT INTO "RateLimit" VALUES ('signUpsOfNetwork:x', 3, ${at});
     INSERT INTO "Checkout" VALUES ('${referrer.id}', 'checkout', 'monthly', 'price_m', 0, NULL, ${at});
     WITH RECURSIVE "numbers" ("n") AS (SELECT 1 UNION ALL SELECT "n" + 1 FROM "numbers" WHERE "n" < 2500)
     INSERT INTO "Event" ("id", "type", "created", "receivedAt", "status", "reason", "payload", "thinned")
     SELECT 'evt_many_' || "n", 'x', ${at}, ${at}, 'ignored', 'x',
       '{"quote":"\\"","backslash":"\\\\","nul":"\\u0000","text":"ünï 🙂' || CASE WHEN "n" < 9 THEN hex(zeroblob(200000)) ELSE '' END || '"}',
       "n" % 2
     FROM "numbers"`,
  );
  return { ...server, cookie: referrer.cookie };
}

test('migrate-to copies everything; accounts, sessions and ledgers are the same', async () => {
  const server = await fullServer();
  const counts = await rowCounts(server.databaseUrl);
  expect(Object.keys(counts)).toEqual(TABLES);
  const rows = Object.values(counts).reduce((sum, count) => sum + count, 0);

  const target = await newEmptyDatabase();
  const env = { DATABASE_URL: server.databaseUrl, SESSION_SECRET };
  const { code, stdout, stderr } = await runCli(['migrate-to', target, '--json'], env);
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
  const said = JSON.parse(stdout) as { rows: number; tables: { name: string; rows: number }[] };
  expect(said.rows).toBe(rows);
  expect(Object.fromEntries(said.tables.map((table) => [table.name, table.rows]))).toEqual(counts);

  const moved = await startTestServer({ DATABASE_URL: target }, server.clock);
  expect(await allRows(moved.db)).toEqual(await allRows(server.db));
  for (const command of [user, explain]) {
    for (const name of ['referrer', 'paying', 'refunded', 'disputed']) {
      const told = ({ db, clock }: TestServer) =>
        command(commandContext({ db, clock }), `${name}@example.com`);
      expect(await told(moved)).toEqual(await told(server));
    }
  }
  const before = await doctor(commandContext(server));
  expect(await doctor(commandContext(moved))).toEqual(before);
  expect(before.json).toMatchObject({ findings: [] });
  const me = await moved.app.inject({ url: '/api/me', headers: { cookie: server.cookie } });
  expect(me.json()).toMatchObject({ email: 'referrer@example.com' });
});

test('migrate-to prints how much was copied and what to do next', async () => {
  const source = await smallSource();
  const { text } = await copy(source, await newDatabase());
  expect(text).toMatch(/^Setting +2 rows$/m);
  expect(text).toContain('Copied and compared 3 rows.');
  expect(text).toContain('Keep SESSION_SECRET as it is');
});

describe('without SESSION_SECRET, migrate-to says where the servers keep it', () => {
  const copyWithoutSecret = async (source: string): Promise<string> =>
    (await migrateTo(readConfig({ DATABASE_URL: source }), await newDatabase())).text;

  test('migrate-to names the session secret beside the database that the servers use', async () => {
    const source = await smallSource();
    const secret = join(dirname(databasePath(source)), 'session-secret');
    await writeFile(secret, 'x');
    expect(await copyWithoutSecret(source)).toContain(`Set SESSION_SECRET to the content of ${secret}`);
  });

  test('and does not name a missing file when a backup is copied', async () => {
    const text = await copyWithoutSecret(await smallSource());
    expect(text).toContain('Set SESSION_SECRET to the value that the servers use now');
    expect(text).toContain('session-secret next to their database');
    expect(text).not.toMatch(/\/session-secret/);
  });
});

test('migrate-to brings a source of an older version up to date and copies it in one run', async () => {
  const source = await olderSource();
  const target = await newEmptyDatabase();
  const { code, stdout, stderr } = await runCli(['migrate-to', target], {
    DATABASE_URL: source,
    SESSION_SECRET,
  });
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
  expect(stdout).toContain('Copied and compared 1 row');
  expect(await rowCounts(target)).toEqual({ User: 1 });
  expect(stdout).toContain('The SQLite file was migrated to this version and is otherwise unchanged.');
});

describe('migrate-to refuses and copies nothing', () => {
  test('into a database that an older version uses, and does not migrate it', async () => {
    const target = await newDatabase();
    const { isStillOlder } = await makeOlder(target);
    expect(await refusal(await smallSource(), target)).toBe(
      'An older version of Tandem uses this database. Choose an empty one; createdb creates one.',
    );
    expect(await isStillOlder()).toBe(true);
  });

  test('and says that the source was migrated all the same', async () => {
    const target = await newDatabase();
    const { run } = await otherConnection({ databaseUrl: target });
    await run(`INSERT INTO "Setting" VALUES ('theirs', 'x')`);
    expect(await refusal(await olderSource(), target)).toMatch(
      /createdb creates one\. The SQLite file was migrated to this version, so servers of an older version cannot use it any more\.$/,
    );
  });

  test('migrate-to refuses a target that has rows', async () => {
    const target = await newDatabase();
    const { run } = await otherConnection({ databaseUrl: target });
    await run(`INSERT INTO "Setting" VALUES ('theirs', 'x')`);
    expect(await refusal(await smallSource(), target)).toBe(
      'The target is not empty: its table Setting has rows. Use an empty database; createdb creates one.',
    );
    expect(await rowCounts(target)).toEqual({ Setting: 1 });
  });

  test('migrate-to refuses to run a second time', async () => {
    const [source, target] = [await smallSource(), await newDatabase()];
    await copy(source, target);
    expect(await refusal(source, target)).toContain('The target is not empty: ');
    expect(await rowCounts(target)).toEqual({ Setting: 2, User: 1 });
  });

  test.each(['file:./other.db', 'postgresql://127.0.0.1:1', 'tandem'])(
    'migrate-to refuses the target %s',
    async (target) => {
      expect(await refusal(await smallSource(), target)).toBe(
        'The target must be a PostgreSQL database: postgresql://user:password@host:port/database.',
      );
    },
  );

  test('when the source is not a SQLite database, such as the target itself', async () => {
    const target = await newDatabase();
    expect(await refusal(target, target)).toMatch(/^DATABASE_URL is already a PostgreSQL database/);
  });

  test('when there is no source, and none is created', async () => {
    const folder = await emptyFolder();
    const path = join(folder, 'tandem.db');
    expect(await refusal(`file:${path}`, await newDatabase())).toBe(
      `The database ${path} cannot be read (ENOENT). Correct DATABASE_URL or the file's permissions.`,
    );
    expect(await readdir(folder)).toEqual([]);
  });

  test('when the target cannot be reached; its password is not shown', async () => {
    const said = await refusal(await smallSource(), 'postgresql://nobody:secret@127.0.0.1:1/tandem');
    expect(said).toContain('correct the host and port in the address of the target');
    expect(said).not.toContain('secret');
  });

  test('migrate-to refuses while a server writes to the source, and works once it has stopped', async () => {
    const [source, target] = [await smallSource(), await newDatabase()];
    const server = new Database(databasePath(source));
    const write = server.prepare(`INSERT INTO "Setting" VALUES (?, 'x')`);
    let n = 0;
    const writing = setInterval(() => write.run(`k${(n += 1)}`), 1);
    const said = await refusal(source, target);
    clearInterval(writing);
    server.close();
    expect(said).toMatch(/^Nothing was copied, because the database was written to meanwhile/);
    expect(await rowCounts(target)).toEqual({});
    await copy(source, target);
    expect(await rowCounts(target)).toEqual(await rowCounts(source));
  });

  test('from a source in which a row refers to one that does not exist', async () => {
    const [source, target] = [await smallSource(), await newDatabase()];
    change(
      source,
      `INSERT INTO "Dispute" VALUES ('d', 'nowhere', '2027-01-10T09:00:00.000+00:00', 'lost', '2027-01-10T09:00:00.000+00:00')`,
    );
    expect(await refusal(source, target)).toMatch(
      /^Nothing was copied: .*Dispute_paymentId_fkey.*\. Fix the cause, then try again\.$/,
    );
    expect(await rowCounts(target)).toEqual({});
  });

  test('migrate-to rolls back when the target would store a different value', async () => {
    const [source, target] = [await smallSource(), await newDatabase()];
    // The same instant in another zone; PostgreSQL drops the zone.
    change(source, `UPDATE "User" SET "createdAt" = '2027-01-10T10:00:00.000+01:00'`);
    expect(await refusal(source, target)).toMatch(/^The copy of the table User differs: /);
    expect(await rowCounts(target)).toEqual({});
  });

  test('migrate-to rolls back when the target loses a row', async () => {
    const [source, target] = [await smallSource(), await newDatabase()];
    const { run } = await otherConnection({ databaseUrl: target });
    await run(
      `CREATE FUNCTION lose() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;
       CREATE TRIGGER lost BEFORE INSERT ON "Setting" FOR EACH ROW WHEN (NEW."key" = 'b') EXECUTE FUNCTION lose()`,
    );
    expect(await refusal(source, target)).toContain('table Setting differs: it has 1 of 2 rows');
    expect(await rowCounts(target)).toEqual({});
  });
});
