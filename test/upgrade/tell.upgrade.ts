import { writeFile } from 'node:fs/promises';

import { test } from 'vitest';

import { readConfig } from '../../src/config.ts';
import { openDatabase } from '../../src/db/open.ts';
import { examine } from '../../src/operator/doctor.ts';
import { explainAccount } from '../../src/operator/explain.ts';

const databases = JSON.parse(process.env['UPGRADE_DATABASES'] ?? '[]') as string[];
const now = new Date('2030-01-01T00:00:00Z');

test('what explain and doctor say of the databases', async () => {
  const config = readConfig({ PUBLIC_URL: 'http://tandem.test' });
  const told = [];
  for (const databaseUrl of databases) {
    const { db } = await openDatabase(databaseUrl);
    const users = await db.user.findMany({ orderBy: { id: 'asc' } });
    const accounts = [];
    for (const user of users) accounts.push(await explainAccount(db, user, config, now));
    const findings = await examine(db, { clawbackDays: config.clawbackDays, now });
    told.push({ databaseUrl, accounts, findings });
    await db.$disconnect();
  }
  await writeFile(process.env['UPGRADE_TOLD'] ?? '', JSON.stringify(told, null, 1));
});
