import { readFile } from 'node:fs/promises';
import { join } from 'node:path';

import { loadSchemaEngine } from '../../src/db/migrate.ts';
import { databasePath } from '../../src/db/open.ts';
import { sqliteAdapterFactory } from '../../src/db/sqlite-adapter.ts';

/**
 * How a SQLite database differs from its schema according to Prisma's own engine, as `prisma migrate diff` prints it.
 * (It cannot read PostgreSQL's catalogue through an adapter.)
 *
 * @param folder where schema.prisma is
 */
export async function differencesToSchema(databaseUrl: string, folder: string): Promise<string> {
  const path = join(folder, 'schema.prisma');
  const files = [{ path, content: await readFile(path, 'utf8') }];
  const schemaEngine = await loadSchemaEngine(sqliteAdapterFactory(databasePath(databaseUrl), 0), folder);
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
