import { randomUUID } from 'node:crypto';
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';

import { expect, inject, test } from 'vitest';

import { otherConnection } from './support/other-connection.ts';
import type { OtherConnection } from './support/other-connection.ts';
import { newEmptyDatabase } from './support/server.ts';

const onSqlite = inject('engine') === 'sqlite';
const MIGRATION = '20261126120000_accounts';

/** A database in the state before the migration. */
async function oldDatabase(): Promise<{ database: OtherConnection; migrate: () => Promise<void> }> {
  const databaseUrl = onSqlite
    ? `file:${join(inject('scratch'), `${randomUUID()}.db`)}`
    : await newEmptyDatabase();
  const database = await otherConnection({ databaseUrl });
  const folder = join(import.meta.dirname, '../prisma', onSqlite ? '' : 'postgresql', 'migrations');
  const names = (await readdir(folder)).filter((name) => /^\d/.test(name)).sort();
  const run = async (name: string) =>
    database.run(await readFile(join(folder, name, 'migration.sql'), 'utf8'));
  for (const name of names.filter((one) => one < MIGRATION)) await run(name);
  return { database, migrate: () => run(MIGRATION) };
}

const AT = "'2027-01-10T09:00:00.000+00:00'";

function user(id: string, email: string | null, hash = `hash of ${id}`): string {
  const [password, deletedAt] = email === null ? ['NULL', AT] : ["'x'", 'NULL'];
  return `INSERT INTO "User" ("id", "email", "emailHash", "passwordHash", "code", "tier", "creditEntryCount", "createdAt", "deletedAt")
    VALUES ('${id}', ${email === null ? 'NULL' : `'${email}'`}, '${hash}', ${password}, '${id}', 'free', 0, ${AT}, ${deletedAt});`;
}

function subscription(userId: string, { trial = false, proven = false }): string {
  return `INSERT INTO "Customer" ("id", "userId") VALUES ('cus_${userId}', '${userId}');
    INSERT INTO "Subscription" ("id", "customerId", "trialEnd", "provenAt", "createdAt")
    VALUES ('sub_${userId}', 'cus_${userId}', ${trial ? AT : 'NULL'}, ${proven ? AT : 'NULL'}, ${AT});`;
}

test('upgrading older accounts keeps only addresses that were paid for, and the address hashes of converted referrals only', async () => {
  const { database, migrate } = await oldDatabase();
  await database.run(
    [
      user('payer', 'payer@example.com'),
      subscription('payer', { proven: true }),
      user('passer', 'passer@example.com'),
      user('gone-payer', null),
      subscription('gone-payer', { proven: true }),
      user('gone', null),
      user('trier-1', 'trier+1@example.com', 'hash of trier'),
      subscription('trier-1', { trial: true }),
      user('trier-2', 'trier+2@example.com', 'hash of trier'),
      subscription('trier-2', { trial: true }),
      user('gmail', 'g.mail@gmail.com'),
      ...['payer', 'passer', 'gone-payer', 'gone'].map(
        (id) => `INSERT INTO "FormerAddress" VALUES ('${id}', 'former of ${id}');`,
      ),
      ...['payer', 'gone'].map(
        (id) =>
          `INSERT INTO "Session" VALUES ('session ${id}', '${id}', ${AT});
           INSERT INTO "ResetLink" VALUES ('link ${id}', '${id}', ${AT});`,
      ),
      `INSERT INTO "Referral" ("id", "referrerId", "referredId", "referredHash", "createdAt", "convertedAt", "creditedAt")
       VALUES ('converted', 'gmail', 'payer', 'hash of payer', ${AT}, ${AT}, ${AT});
       INSERT INTO "CreditEntry" VALUES ('payer', 1, ${AT}, 'grant', 1, 'converted', 'x');
       INSERT INTO "Referral" ("id", "referrerId", "referredId", "referredHash", "createdAt")
       VALUES ('open', 'gmail', 'passer', 'hash of passer', ${AT});`,
    ].join('\n'),
  );
  await migrate();

  const all = (query: string) =>
    database.rows(query).then((rows) => rows.flatMap((row) => Object.values(row)));
  expect(await all('SELECT "emailHash" FROM "FormerAddress" ORDER BY 1')).toEqual([
    'former of gone-payer',
    'former of payer',
  ]);
  expect(await all(`SELECT "id" FROM "User" WHERE "emailHash" = ''`)).toEqual(['gone']);
  expect(await all('SELECT "userId" FROM "Session"')).toEqual(['payer']);
  expect(await all('SELECT "userId" FROM "ResetLink"')).toEqual(['payer']);
  expect(await all('SELECT "id" FROM "Subscription" WHERE "trialHash" IS NOT NULL')).toEqual(['sub_trier-1']);
  expect(await all('SELECT "id", "referredHash" FROM "Referral" ORDER BY 1')).toEqual([
    'converted',
    'hash of payer',
    'open',
    null,
  ]);
  expect(await all('SELECT "seq" FROM "CreditEntry"')).toEqual([1]);
  expect(await all(`SELECT "value" FROM "Setting" WHERE "key" = 'rehashAddresses'`)).toEqual(['gmail.com']);
});

test('without a Gmail address nothing is hashed again', async () => {
  const { database, migrate } = await oldDatabase();
  await database.run(user('ann', 'ann@example.com'));
  await migrate();
  expect(await database.rows('SELECT * FROM "Setting"')).toEqual([]);
});
