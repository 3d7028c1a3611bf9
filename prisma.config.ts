import { defineConfig } from 'prisma/config';

// Migrations run through the engine's WASM build (src/db/migrate.ts), so the native schema engine is never
// used. Naming a file that exists keeps the command line from downloading one when it only has to generate.
process.env['PRISMA_SCHEMA_ENGINE_BINARY'] ??= import.meta.filename;

export default defineConfig({
  schema: 'prisma/schema.prisma',
  migrations: { path: 'prisma/migrations' },
});
