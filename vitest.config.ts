import { defineConfig } from 'vitest/config';

const EVERY_TEST = 'test/**/*.test.ts';

/**
 * What has no database of its own (the sandbox), what is about SQLite (its adapter, its file, how many statements it
 * takes), and processes, of which postgresql-processes.test.ts has the other half.
 */
const SQLITE_ONLY = [
  'test/sqlite-adapter.test.ts',
  'test/node-versions.test.ts',
  'test/group-commit.test.ts',
  'test/sandbox*.test.ts',
  'test/cli.test.ts',
  'test/start.test.ts',
  'test/statements.test.ts',
  'test/backup.test.ts',
  'test/crash-disk.test.ts',
];

/** What is about PostgreSQL, or needs one beside SQLite. */
const POSTGRESQL_ONLY = [
  'test/migrate-to.test.ts',
  'test/postgresql*.test.ts',
  'test/crash-database.test.ts',
];

/** The long run (`npm run test:all`): every kill and every story. */
const thorough = process.env['THOROUGH'] === '1';

export default defineConfig({
  test: {
    // Passwords are hashed for real, and processes are started for real.
    testTimeout: 60_000,
    hookTimeout: 60_000,
    // The modules of src/ and the databases that tests use are kept from one file to the next.
    isolate: false,
    maxWorkers: 2,
    restoreMocks: true,
    projects: [
      {
        extends: true,
        test: {
          name: 'sqlite',
          include: [EVERY_TEST],
          exclude: POSTGRESQL_ONLY,
          globalSetup: 'test/support/sqlite-template.ts',
          provide: { engine: 'sqlite', thorough },
        },
      },
      {
        extends: true,
        test: {
          name: 'postgresql',
          include: [EVERY_TEST],
          exclude: SQLITE_ONLY,
          globalSetup: 'test/support/postgresql-template.ts',
          provide: { engine: 'postgresql', thorough },
        },
      },
      {
        extends: true,
        test: {
          name: 'e2e',
          include: ['test/e2e/*.e2e.ts'],
          globalSetup: 'test/e2e/support/chromium.ts',
          testTimeout: 300_000,
          // Browser, server and test share one machine: when it stands still for seconds, the server rightly refuses.
          retry: 1,
        },
      },
    ],
  },
});
