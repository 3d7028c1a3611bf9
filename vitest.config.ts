import { defineConfig } from 'vitest/config';

const EVERY_TEST = 'test/**/*.test.ts';

/** What has no database, or is about one kind of it: files, processes and the sandbox. */
const SQLITE_ONLY = [
  'test/sandbox*.test.ts',
  'test/stripe-shapes.test.ts',
  'test/cli.test.ts',
  'test/start.test.ts',
  'test/statements.test.ts',
  'test/backup.test.ts',
];

/** What is about PostgreSQL, or needs one beside SQLite. */
const POSTGRESQL_ONLY = ['test/migrate-to.test.ts', 'test/postgresql*.test.ts'];

export default defineConfig({
  test: {
    // Passwords are hashed for real, and processes are started for real.
    testTimeout: 60_000,
    hookTimeout: 60_000,
    projects: [
      {
        extends: true,
        test: {
          name: 'sqlite',
          include: [EVERY_TEST],
          exclude: POSTGRESQL_ONLY,
          globalSetup: 'test/support/sqlite-template.ts',
          provide: { engine: 'sqlite' },
        },
      },
      {
        extends: true,
        test: {
          name: 'postgresql',
          include: [EVERY_TEST],
          exclude: SQLITE_ONLY,
          globalSetup: 'test/support/postgresql-template.ts',
          provide: { engine: 'postgresql' },
        },
      },
    ],
  },
});
