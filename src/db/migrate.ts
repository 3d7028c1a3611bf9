import { readdir, readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';

import { bindMigrationAwareSqlAdapterFactory, isDriverAdapterError } from '@prisma/driver-adapter-utils';
import type { SqlDriverAdapter, SqlMigrationAwareDriverAdapterFactory } from '@prisma/driver-adapter-utils';
import * as engine from '@prisma/schema-engine-wasm/schema_engine_bg';

import { PlainError } from '../plain-error.ts';

const NO_FILTER = { externalTables: [], externalEnums: [] };

/** The part of Node's global that we use; its types come only with the DOM library. */
declare const WebAssembly: {
  instantiate(
    bytes: Uint8Array,
    imports: Record<string, unknown>,
  ): Promise<{ instance: { exports: { __wbindgen_start: () => void } } }>;
};

/**
 * Applies pending migrations. They are ordinary Prisma migrations, applied by Prisma's own engine (its WASM build, so
 * there is nothing to download); `prisma migrate` accepts the database too.
 *
 * @param folder the schema and migrations of this engine
 * @returns the names of the migrations just applied
 * @throws PlainError when the database is newer than the code, or a migration failed earlier or fails now
 */
export async function migrate(
  adapterFactory: SqlMigrationAwareDriverAdapterFactory,
  folder: string,
): Promise<string[]> {
  const known = await migrationNames(folder);
  let applied = await appliedMigrations(adapterFactory);
  if (applied.some(({ finished }) => !finished) && adapterFactory.provider === 'postgres') {
    await othersHaveMigrated(adapterFactory);
    applied = await appliedMigrations(adapterFactory);
  }

  const unknown = applied.filter((migration) => !known.includes(migration.name));
  if (unknown.length > 0) {
    const names = unknown.map((migration) => migration.name).join(', ');
    throw new PlainError(
      `The database is newer than this version of Tandem: it has the migration ${names}, which this version does not know. ` +
        'Install the newer version again, or restore a backup made before the upgrade.',
    );
  }
  const broken = applied.find((migration) => !migration.finished);
  if (broken) {
    throw new PlainError(
      `The migration ${broken.name} was started on this database but did not finish. Restore a backup made before it, then start again.`,
    );
  }
  if (applied.length === known.length) return [];

  // The engine never closes its connections and keeps them locked, so we close them.
  const connections: SqlDriverAdapter[] = [];
  const remembering = {
    ...adapterFactory,
    connect: async () => {
      const connection = await adapterFactory.connect();
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

/**
 * Waits while another process migrates. Prisma's engine then holds this lock and has marked a migration as started.
 * (On SQLite it holds the whole file, so nobody sees a migration half done.)
 * https://www.prisma.io/docs/orm/prisma-migrate/workflows/development-and-production#advisory-locking
 */
async function othersHaveMigrated(adapterFactory: SqlMigrationAwareDriverAdapterFactory): Promise<void> {
  const connection = await adapterFactory.connect();
  try {
    await connection.executeScript('SELECT pg_advisory_lock(72707369); SELECT pg_advisory_unlock(72707369)');
  } finally {
    await connection.dispose();
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
