import { readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';

import { bindMigrationAwareSqlAdapterFactory } from '@prisma/driver-adapter-utils';
import * as engine from '@prisma/schema-engine-wasm/schema_engine_bg';

import { databasePath } from '../../src/db/open.ts';
import { sqliteAdapterFactory } from '../../src/db/sqlite-adapter.ts';

declare const WebAssembly: {
  instantiate(
    bytes: Uint8Array,
    imports: Record<string, unknown>,
  ): Promise<{ instance: { exports: { __wbindgen_start: () => void } } }>;
};

/**
 * What Prisma's own engine says of how a SQLite database differs from its schema, as `prisma migrate diff` prints it. (It
 * cannot read PostgreSQL's catalogue through an adapter.) A process can load the engine once.
 *
 * @param folder where schema.prisma is
 */
export async function differencesToSchema(databaseUrl: string, folder: string): Promise<string> {
  const resolved = createRequire(import.meta.url).resolve('@prisma/schema-engine-wasm/schema_engine_bg');
  const wasm = await readFile(join(dirname(resolved), 'schema_engine_bg.wasm'));
  const { instance } = await WebAssembly.instantiate(wasm, { './schema_engine_bg.js': engine });
  engine.__wbg_set_wasm(instance.exports);
  instance.exports.__wbindgen_start();

  const path = join(folder, 'schema.prisma');
  const files = [{ path, content: await readFile(path, 'utf8') }];
  const schemaEngine = await engine.SchemaEngine.new(
    { datamodels: files.map(({ content }) => [path, content]) },
    () => undefined,
    bindMigrationAwareSqlAdapterFactory(sqliteAdapterFactory(databasePath(databaseUrl), 0)),
  );
  const { stdout } = await schemaEngine.diff({
    from: { tag: 'schemaDatasource', files, configDir: folder },
    to: { tag: 'schemaDatamodel', files },
    script: false,
    exitCode: null,
    filters: { externalTables: [], externalEnums: [] },
  });
  schemaEngine.free();
  return stdout?.trim() ?? '';
}
