import { copyFile, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import Database from 'better-sqlite3';
import { Client } from 'pg';

import { asAdministrator, databaseOn } from '../support/postgresql-databases.ts';
import { startPostgresql } from '../support/postgresql-server.ts';
import { seed } from './seed.ts';
import type { Seed } from './seed.ts';
import type { Engine } from './shared.ts';

/** Two databases with the very same rows: Tandem's, and the limit's. */
export interface Databases {
  tandem: string;
  limit: string;
  remove: () => Promise<void>;
}

/** Seeds one and copies it. */
export async function makeDatabases(engine: Engine, rows: Seed): Promise<Databases> {
  if (engine === 'sqlite') {
    const folder = await mkdtemp(join(tmpdir(), 'tandem-bench-'));
    const [tandem, limit] = [join(folder, 'tandem.db'), join(folder, 'limit.db')];
    await seed(`file:${tandem}`, engine, rows);
    await copyFile(tandem, limit);
    return {
      tandem: `file:${tandem}`,
      limit: `file:${limit}`,
      remove: () => rm(folder, { recursive: true, force: true }),
    };
  }
  const server = await startPostgresql();
  await asAdministrator(server.url, 'CREATE DATABASE tandem');
  await seed(databaseOn(server.url, 'tandem'), engine, rows);
  await asAdministrator(server.url, 'CREATE DATABASE bare TEMPLATE tandem');
  return {
    tandem: databaseOn(server.url, 'tandem'),
    limit: databaseOn(server.url, 'bare'),
    remove: server.stop,
  };
}

/** What must come out the same whoever handled the events: clocks and random ids aside, it is all of it. */
const SUMS = `
  SELECT
    (SELECT count(*) FROM "Event" WHERE "status" = 'applied') AS "events",
    (SELECT count(*) FROM "Subscription" WHERE "status" = 'active' AND "provenAt" IS NOT NULL) AS "proven",
    (SELECT count(DISTINCT "currentPeriodEnd") FROM "Subscription") AS "periods",
    (SELECT count(*) FROM "User" WHERE "tier" = 'paid' AND "creditHeldAt" IS NOT NULL) AS "payers",
    (SELECT count(*) FROM "User" WHERE "creditUntil" IS NOT NULL) AS "credited",
    (SELECT sum("creditEntryCount") FROM "User") AS "counted",
    (SELECT count(*) FROM "Referral" WHERE "convertedAt" IS NOT NULL) AS "conversions",
    (SELECT count(*) FROM "CreditEntry" WHERE "kind" = 'hold') AS "holds",
    (SELECT sum("seconds") FROM "CreditEntry") AS "seconds",
    (SELECT count(*) FROM "AuditRow") AS "audited",
    (SELECT sum("seconds") FROM "AuditRow") AS "auditedSeconds"`;

/** @throws Error when the two do not say the same: then they did not do the same work */
export async function compare({ tandem, limit }: Databases): Promise<void> {
  const [ours, theirs] = [JSON.stringify(await sums(tandem)), JSON.stringify(await sums(limit))];
  if (ours !== theirs) throw new Error(`Tandem and the limit did different work: ${ours} and ${theirs}`);
}

async function sums(url: string): Promise<unknown> {
  if (url.startsWith('file:')) {
    const database = new Database(url.replace('file:', ''), { readonly: true });
    const row = database.prepare(SUMS).get();
    database.close();
    return row;
  }
  const client = new Client({ connectionString: url });
  await client.connect();
  const { rows } = await client.query<Record<string, unknown>>(SUMS);
  await client.end();
  return rows[0];
}
