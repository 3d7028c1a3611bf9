import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { copyFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import Database from 'better-sqlite3';
import { Client } from 'pg';

import { databasePath, isPostgresql } from '../../src/db/open.ts';
import { DAY_SECONDS } from '../../src/instants.ts';
import { asAdministrator, databaseOn } from '../support/postgresql-databases.ts';
import { startPostgresql } from '../support/postgresql-server.ts';
import { seed } from './seed.ts';
import type { Seed } from './seed.ts';
import { programArguments } from './servers.ts';
import type { Engine } from './shared.ts';

const CREDIT_MS = 45 * DAY_SECONDS * 1000;

/** Two databases with identical rows: Tandem's and the baseline's. */
export interface Databases {
  tandem: string;
  baseline: string;
  remove: () => Promise<void>;
}

/**
 * Seeds one database and copies it. For PostgreSQL it starts a server in its default configuration, which flushes at
 * each commit.
 */
export async function makeDatabases(engine: Engine, rows: Seed): Promise<Databases> {
  return engine === 'sqlite' ? makeFiles(rows) : makeServer(rows);
}

const folders = new Set<string>();
process.once('exit', () => {
  for (const folder of folders) rmSync(folder, { recursive: true, force: true });
});

/** A new temporary folder, removed at the latest when this process exits. */
export function scratchFolder(): { folder: string; clear: () => void } {
  const folder = mkdtempSync(join(tmpdir(), 'tandem-bench-'));
  folders.add(folder);
  const clear = (): void => {
    rmSync(folder, { recursive: true, force: true });
    folders.delete(folder);
  };
  return { folder, clear };
}

async function makeFiles(rows: Seed): Promise<Databases> {
  const { folder, clear } = scratchFolder();
  const [tandem, baseline] = [join(folder, 'tandem.db'), join(folder, 'baseline.db')];
  await seed(`file:${tandem}`, 'sqlite', rows);
  await copyFile(tandem, baseline);
  const remove = (): Promise<void> => {
    clear();
    return Promise.resolve();
  };
  return { tandem: `file:${tandem}`, baseline: `file:${baseline}`, remove };
}

async function makeServer(rows: Seed): Promise<Databases> {
  const server = await startPostgresql();
  const [tandem, baseline] = [databaseOn(server.url, 'tandem'), databaseOn(server.url, 'bare')];
  await asAdministrator(server.url, 'CREATE DATABASE tandem');
  await seed(tandem, 'postgresql', rows);
  await asAdministrator(server.url, 'CREATE DATABASE bare TEMPLATE tandem');
  return { tandem, baseline, remove: server.stop };
}

/**
 * Compares every row of every table. It leaves out random ids and the order in which a referrer was credited for
 * several simultaneous friends. Instants from the run only have to be set, because the two servers did not work in the
 * same seconds.
 *
 * @param since when the run began
 * @returns how many rows were compared
 * @throws Error when the rows differ, so the servers did not do the same work
 */
export async function compare({ tandem, baseline }: Databases, since: Date): Promise<number> {
  const [ours, theirs] = [await openReader(tandem), await openReader(baseline)];
  let compared = 0;
  try {
    for (const table of await ours.tables()) {
      const [a, b] = [comparable(await ours.rows(table), since), comparable(await theirs.rows(table), since)];
      const index = a.findIndex((row, place) => row !== b[place]);
      if (index !== -1 || a.length !== b.length) {
        throw new Error(
          `Tandem and the baseline differ in ${table} (${a.length} and ${b.length} rows):\n` +
            `${a[index] ?? 'nothing'}\n${b[index] ?? b.at(-1) ?? 'nothing'}`,
        );
      }
      compared += a.length;
    }
  } finally {
    await ours.close();
    await theirs.close();
  }
  return compared;
}

type Row = Record<string, unknown>;

function comparable(rows: readonly Row[], since: Date): string[] {
  const instant = (value: unknown): unknown => {
    if (typeof value !== 'string' || !/^\d{4}-\d\d-\d\d[T ][\d:.]+(\+00:00)?$/.test(value)) return value;
    const ms = new Date(`${value.slice(0, 10)}T${value.slice(11).replace('+00:00', '')}Z`).getTime();
    const grants = Math.floor((ms - since.getTime()) / CREDIT_MS);
    const isOfTheRun = grants >= 0 && ms - grants * CREDIT_MS <= Date.now();
    return isOfTheRun ? `the run + ${grants} × 45 days` : value;
  };
  return rows
    .map((row) => {
      const kept = { ...row };
      if ('actor' in row) delete kept['id'];
      delete kept['seq'];
      return JSON.stringify(
        Object.fromEntries(Object.entries(kept).map(([key, value]) => [key, instant(value)])),
      );
    })
    .sort();
}

interface Reader {
  tables: () => Promise<string[]>;
  /** Instants as text, in UTC. */
  rows: (table: string) => Promise<Row[]>;
  close: () => Promise<void>;
}

async function openReader(url: string): Promise<Reader> {
  if (!isPostgresql(url)) {
    const database = new Database(databasePath(url), { readonly: true });
    const all = <T>(sql: string): Promise<T[]> => Promise.resolve(database.prepare(sql).all() as T[]);
    return {
      tables: async () =>
        (await all<{ name: string }>(`SELECT "name" FROM "sqlite_schema" WHERE "type" = 'table'`))
          .map(({ name }) => name)
          .filter(isOurs),
      rows: (table) => all<Row>(`SELECT * FROM "${table}"`),
      close: () => {
        database.close();
        return Promise.resolve();
      },
    };
  }
  const client = new Client({ connectionString: url });
  await client.connect();
  return {
    tables: async () =>
      (
        await client.query<{ tablename: string }>(
          `SELECT tablename FROM pg_tables WHERE schemaname = 'public'`,
        )
      ).rows
        .map(({ tablename }) => tablename)
        .filter(isOurs),
    rows: async (table) =>
      (await client.query<{ row: Row }>(`SELECT row_to_json(t) AS row FROM "${table}" AS t`)).rows.map(
        ({ row }) => row,
      ),
    close: () => client.end(),
  };
}

function isOurs(table: string): boolean {
  return !/^(_prisma|sqlite_)/.test(table);
}

/** @throws Error when `doctor` finds anything: then the seed or the run wrote rows that Tandem would not write */
export async function examine(url: string): Promise<void> {
  const child = spawn(process.execPath, [...programArguments('cli'), 'doctor'], {
    env: { PATH: process.env['PATH'], DATABASE_URL: url },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let said = '';
  child.stdout.on('data', (chunk: Buffer) => (said += chunk.toString()));
  child.stderr.on('data', (chunk: Buffer) => (said += chunk.toString()));
  const [code] = (await once(child, 'close')) as [number];
  if (code !== 0)
    throw new Error(`doctor on ${url.startsWith('file:') ? url : 'PostgreSQL'}:\n${said.slice(0, 2000)}`);
}
