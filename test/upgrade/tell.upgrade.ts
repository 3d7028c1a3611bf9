import { existsSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import { test } from 'vitest';

import { readConfig } from '../../src/config.ts';
import { openDatabase } from '../../src/db/open.ts';

const databases = JSON.parse(process.env['UPGRADE_DATABASES'] ?? '[]') as string[];

/** Older versions have these files at other paths. */
async function operatorFile<Exports>(name: string): Promise<Exports> {
  const folders = ['operator', 'operations'].map((folder) => join(import.meta.dirname, '../../src', folder));
  const path = folders.map((folder) => join(folder, name)).find((file) => existsSync(file));
  return (await import(path ?? '')) as Exports;
}

type Doctor = typeof import('../../src/operator/doctor.ts');
type Explain = typeof import('../../src/operator/explain.ts');

const now = new Date('2030-01-01T00:00:00Z');

test('explain and doctor describe the upgraded databases', async () => {
  const { examine } = await operatorFile<Doctor>('doctor.ts');
  const { explainAccount } = await operatorFile<Explain>('explain.ts');
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
