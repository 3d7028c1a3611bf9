import { readdir, readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';

import { bindMigrationAwareSqlAdapterFactory, isDriverAdapterError } from '@prisma/driver-adapter-utils';
import type { SqlDriverAdapter, SqlMigrationAwareDriverAdapterFactory } from '@prisma/driver-adapter-utils';
import * as engine from '@prisma/schema-engine-wasm/schema_engine_bg';

import { PlainError } from '../plain-error.ts';

/**
 * What to do with pending migrations. `apply`: servers, `migrate`, and `migrate-to` on its source. `create`: apply them
 * to an empty database only (`migrate-to` on its target). `refuse`: other commands, because servers of an older version
 * may be using the database.
 */
export type Pending = 'apply' | 'create' | 'refuse';

const NO_FILTER = { externalTables: [], externalEnums: [] };

/** The part of Node's global that we use; its types come only with the DOM library. */
declare const WebAssembly: {
  instantiate(
    bytes: Uint8Array,
    imports: Record<string, unknown>,
  ): Promise<{ instance: { exports: { __wbindgen_start: () => void } } }>;
};

/** The advisory lock of the process that migrates PostgreSQL: any number that nothing else locks. */
const MIGRATION_LOCK = 8_263_646_001;

/**
 * Applies pending migrations, or refuses a database that has any. They are ordinary Prisma migrations, applied by
 * Prisma's own engine (its WASM build, so there is nothing to download); `prisma migrate` accepts the database too.
 *
 * @param folder the schema and migrations of this engine
 * @returns the names of the migrations just applied
 * @throws PlainError when the database is newer than the code, a migration failed earlier or fails now, or one is pending
 *   and is not to be applied
 */
export async function migrate(
  adapterFactory: SqlMigrationAwareDriverAdapterFactory,
  folder: string,
  pending: Pending,
): Promise<string[]> {
  const known = await migrationNames(folder);
  const applied = await appliedMigrations(adapterFactory);
  refuseNewer(applied, known);
  if (applied.length === known.length && applied.every(({ finished }) => finished)) return [];
  if (pending !== 'apply') refuseBroken(applied);
  if (pending === 'refuse') refuseOlder(applied, known);
  if (pending === 'create' && applied.length > 0)
    throw new PlainError(
      'An older version of Tandem uses this database. Choose an empty one; createdb creates one.',
    );
  return migratingAlone(adapterFactory, () => applyPending(adapterFactory, folder, known));
}

function refuseNewer(applied: readonly AppliedMigration[], known: readonly string[]): void {
  const unknown = applied.filter((migration) => !known.includes(migration.name));
  if (unknown.length === 0) return;
  const names = unknown.map((migration) => migration.name).join(', ');
  throw new PlainError(
    `The database is newer than this version of Tandem: it has migrations that this version does not know: ${names}. ` +
      'Install the newer version again, or restore a backup made before the upgrade.',
  );
}

function refuseOlder(applied: readonly AppliedMigration[], known: readonly string[]): never {
  if (applied.length === 0)
    throw new PlainError(
      'The database is empty. Correct DATABASE_URL, or create the tables: run `migrate` or start a server.',
    );
  const missing = known.filter((name) => !applied.some((one) => one.name === name));
  throw new PlainError(
    `The database is older than this version of Tandem, which needs these migrations: ${missing.join(', ')}. ` +
      'Stop all servers, then run `migrate` or start a server of this version.',
  );
}

function refuseBroken(applied: readonly AppliedMigration[]): void {
  const broken = applied.find((migration) => !migration.finished);
  if (!broken) return;
  throw new PlainError(
    `The migration ${broken.name} was started on this database but did not finish. If another server may still be migrating, wait for it. Otherwise restore a backup made before the migration, then start again.`,
  );
}

/**
 * Waits, however long it takes, while another process migrates: until it is done, its migration looks like one that
 * failed. On SQLite, Prisma's engine locks the whole file instead.
 */
async function migratingAlone<T>(
  adapterFactory: SqlMigrationAwareDriverAdapterFactory,
  work: () => Promise<T>,
): Promise<T> {
  if (adapterFactory.provider !== 'postgres') return work();
  const connection = await connectPatiently(adapterFactory);
  try {
    // A session-level lock would end if the pool closed its idle connection.
    const transaction = await connection.startTransaction();
    try {
      const lock = `SELECT pg_advisory_xact_lock(${MIGRATION_LOCK})`;
      await transaction.executeRaw({ sql: lock, args: [], argTypes: [] });
      return await work();
    } finally {
      // Only hands the connection back to its pool. The lock ends with the connection, below.
      await transaction.rollback();
    }
  } finally {
    await connection.dispose();
  }
}

/** Opens a connection without time limits: a migration that gives up cannot be tried again. */
async function connectPatiently(
  adapterFactory: SqlMigrationAwareDriverAdapterFactory,
): Promise<SqlDriverAdapter> {
  const connection = await adapterFactory.connect();
  if (adapterFactory.provider === 'postgres')
    await connection.executeScript(
      'SET lock_timeout = 0; SET statement_timeout = 0; SET idle_in_transaction_session_timeout = 0',
    );
  return connection;
}

async function applyPending(
  adapterFactory: SqlMigrationAwareDriverAdapterFactory,
  folder: string,
  known: string[],
): Promise<string[]> {
  const applied = await appliedMigrations(adapterFactory);
  // A newer version may have migrated while this one waited.
  refuseNewer(applied, known);
  refuseBroken(applied);
  if (applied.length === known.length) return [];

  // The engine never closes its connections and keeps them locked, so we close them.
  const connections: SqlDriverAdapter[] = [];
  const remembering = {
    ...adapterFactory,
    connect: async () => {
      const connection = await connectPatiently(adapterFactory);
      connections.push(connection);
      return connection;
    },
  };
  const schemaEngine = await loadSchemaEngine(remembering, folder);
  try {
    const { appliedMigrationNames } = await schemaEngine.applyMigrations({
      migrationsList: await migrationsList(folder, known),
      filters: NO_FILTER,
    });
    return appliedMigrationNames;
  } catch (error) {
    throw new PlainError(
      `A migration of the database failed. Restore a backup made before it, then start again. The error: ${messageOf(error)}`,
    );
  } finally {
    schemaEngine.free();
    await Promise.all(connections.map((connection) => connection.dispose()));
  }
}

interface AppliedMigration {
  name: string;
  finished: boolean;
}

async function appliedMigrations(
  adapterFactory: SqlMigrationAwareDriverAdapterFactory,
): Promise<AppliedMigration[]> {
  const connection = await adapterFactory.connect();
  try {
    const { rows } = await connection.queryRaw({
      sql: 'SELECT migration_name, finished_at IS NOT NULL FROM _prisma_migrations WHERE rolled_back_at IS NULL',
      args: [],
      argTypes: [],
    });
    return rows.map(([name, finished]) => ({ name: String(name), finished: Number(finished) === 1 }));
  } catch (error) {
    if (isDriverAdapterError(error) && error.cause.kind === 'TableDoesNotExist') return [];
    throw error;
  } finally {
    await connection.dispose();
  }
}

/**
 * @param folder the schema and migrations of one engine
 * @returns in the order in which they are applied
 */
export async function migrationNames(folder: string): Promise<string[]> {
  const entries = await readdir(join(folder, 'migrations'), { withFileTypes: true });
  return entries
    .filter((entry) => entry.isDirectory())
    .map((entry) => entry.name)
    .sort();
}

async function migrationsList(folder: string, names: string[]): Promise<engine.MigrationList> {
  const baseDir = join(folder, 'migrations');
  const migrationDirectories = await Promise.all(
    names.map(async (name) => ({
      path: name,
      migrationFile: {
        path: 'migration.sql',
        content: {
          tag: 'ok' as const,
          value: await readFile(join(baseDir, name, 'migration.sql'), 'utf8'),
        },
      },
    })),
  );
  const content = await readFile(join(baseDir, 'migration_lock.toml'), 'utf8');
  return {
    baseDir,
    lockfile: { path: 'migration_lock.toml', content },
    shadowDbInitScript: '',
    migrationDirectories,
  };
}

/** Prisma's schema engine. The caller must free it. */
export async function loadSchemaEngine(
  adapterFactory: SqlMigrationAwareDriverAdapterFactory,
  folder: string,
): Promise<engine.SchemaEngine> {
  await (loaded ??= loadWasm());
  const schemaPath = join(folder, 'schema.prisma');
  const schema = await readFile(schemaPath, 'utf8');
  return engine.SchemaEngine.new(
    { datamodels: [[schemaPath, schema]] },
    () => undefined,
    bindMigrationAwareSqlAdapterFactory(adapterFactory),
  );
}

/** Loaded once per process: objects of one WASM instance panic when used with another. */
let loaded: Promise<void> | null = null;

async function loadWasm(): Promise<void> {
  const packageFolder = dirname(
    createRequire(import.meta.url).resolve('@prisma/schema-engine-wasm/schema_engine_bg'),
  );
  const wasm = await readFile(join(packageFolder, 'schema_engine_bg.wasm'));
  const { instance } = await WebAssembly.instantiate(wasm, { './schema_engine_bg.js': engine });
  engine.__wbg_set_wasm(instance.exports);
  instance.exports.__wbindgen_start();
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
