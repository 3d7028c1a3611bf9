import { expect, test } from 'vitest';

import { oldDatabase } from './support/old-database.ts';

const MIGRATION = '20261126120000_accounts';

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
  const { database, migrate } = await oldDatabase(MIGRATION);
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

test('upgrading has addresses hashed again that begin with a +', async () => {
  const { database, migrate } = await oldDatabase('20261128150000_plus_at_the_start');
  await migrate();
  expect(await database.rows('SELECT * FROM "Setting"')).toEqual([]);
  await database.run(user('ann', '+ann@example.com'));
  await migrate();
  await migrate();
  expect(await database.rows('SELECT "key", "value" FROM "Setting"')).toEqual([
    { key: 'rehashAddresses', value: '+' },
  ]);
});

test('without a Gmail address nothing is hashed again', async () => {
  const { database, migrate } = await oldDatabase(MIGRATION);
  await database.run(user('ann', 'ann@example.com'));
  await migrate();
  expect(await database.rows('SELECT * FROM "Setting"')).toEqual([]);
});
