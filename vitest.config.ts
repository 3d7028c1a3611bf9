import { defineConfig } from 'vitest/config';
import { BaseSequencer } from 'vitest/node';
import type { TestSpecification } from 'vitest/node';

const EVERY_TEST = 'test/**/*.test.ts';

/**
 * Tests that run on SQLite only: those that do not depend on the engine, those of SQLite itself (its adapter, its file),
 * and those that start processes, which postgresql-processes.test.ts covers for PostgreSQL.
 */
const SQLITE_ONLY = [
  'test/sqlite-adapter.test.ts',
  'test/node-versions.test.ts',
  'test/group-commit.test.ts',
  'test/sandbox*.test.ts',
  'test/check-config.test.ts',
  'test/cli.test.ts',
  'test/container.test.ts',
  'test/csv.test.ts',
  'test/openapi.test.ts',
  'test/files.test.ts',
  'test/full-disk.test.ts',
  'test/start.test.ts',
  'test/backup.test.ts',
  'test/compile.test.ts',
  'test/handled-types.test.ts',
  'test/log.test.ts',
  'test/lost-output.test.ts',
  'test/pages-of-docs.test.ts',
  'test/passwords.test.ts',
  'test/prices.test.ts',
  'test/routes.test.ts',
  'test/rules/*.test.ts',
  'test/slow-clients.test.ts',
  'test/turns.test.ts',
];

/**
 * Tests of rules, words and links. This code is the same on both engines. Other tests run the same statements on
 * PostgreSQL; only the columns that an update sets may differ.
 */
const SAME_ON_BOTH = [
  'capture',
  'credit-stories',
  'credit-while-paying',
  'failed-refunds-and-appeals',
  'pages',
  'payment-trouble',
  'products',
  'proof',
  'reversal-state',
  'stripe-shapes',
  'trackers',
].map((name) => `test/${name}.test.ts`);

/** Tests of PostgreSQL itself, and tests that need it beside SQLite. */
const POSTGRESQL_ONLY = [
  'test/migrate-to.test.ts',
  'test/postgresql*.test.ts',
  'test/crash-database.test.ts',
];

/** The long run (`npm run test:all`) includes every crash test and every model test. */
const thorough = process.env['THOROUGH'] === '1';

/**
 * Tests that every change runs on PostgreSQL too, because locks, constraints, types or failures differ there.
 * The rules themselves are tested on SQLite.
 */
const QUICK_ON_POSTGRESQL = [
  'accounts-migration',
  'atomicity',
  'backups',
  'conversion',
  'event-migration',
  'mail',
  'migrate-to',
  'model-1',
  'odd-input',
  'one-person',
  'postgresql-*',
  'races',
  'recent-credit',
  'schema',
  'transaction',
  'webhook',
].map((name) => `test/${name}.test.ts`);

/**
 * Requests of one account on two servers at the same time, servers under load, processes on PostgreSQL, and processes that
 * are killed, stopped, or lose their database or disk. Each takes half a minute.
 */
const SLOW = thorough
  ? []
  : [
      'test/account-races.test.ts',
      'test/back-pressure.test.ts',
      'test/busy-database.test.ts',
      'test/concurrency.test.ts',
      'test/crash-*.test.ts',
      'test/full-disk.test.ts',
      'test/graceful-shutdown.test.ts',
      'test/postgresql-processes.test.ts',
    ];

/** Transactions run concurrently only on PostgreSQL, so the short run tests this only there. */
const SLOW_ON_SQLITE = thorough ? [] : ['test/races.test.ts'];

/**
 * Files that take a minute or more in `npm run test:all`. The first one waits 30 s for a busy database, and lint and types
 * are checked in that time.
 */
const LONGEST = [
  'events-cli',
  'model-2',
  'model-1',
  'crash-sigkill',
  'start',
  'graceful-shutdown',
  'reversal',
];

/** Start the longest files first. One that started last would run on alone, on one core. */
class LongestFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const rank = ({ moduleId }: TestSpecification): number => {
      const index = LONGEST.findIndex((name) => moduleId.endsWith(`/${name}.test.ts`));
      return index === -1 ? LONGEST.length : index;
    };
    return (await super.sort(files)).toSorted((a, b) => rank(a) - rank(b));
  }
}

export default defineConfig({
  test: {
    // Tests hash real passwords and start real processes.
    testTimeout: 60_000,
    hookTimeout: 60_000,
    // Share the modules of src/ and the test databases between files.
    isolate: false,
    // Tests produce much garbage. With more room for it, collecting takes a seventh less processor time.
    execArgv: ['--max-semi-space-size=64'],
    // One more than the two cores of CI, because tests also wait for processes and databases.
    maxWorkers: 3,
    restoreMocks: true,
    sequence: { sequencer: LongestFirst },
    projects: [
      {
        extends: true,
        test: {
          name: 'sqlite',
          include: [EVERY_TEST],
          exclude: [...POSTGRESQL_ONLY, ...SLOW, ...SLOW_ON_SQLITE],
          globalSetup: 'test/support/sqlite-template.ts',
          provide: { engine: 'sqlite', thorough },
        },
      },
      {
        extends: true,
        test: {
          name: 'postgresql',
          include: thorough ? [EVERY_TEST] : QUICK_ON_POSTGRESQL,
          exclude: [...SQLITE_ONLY, ...SAME_ON_BOTH, ...SLOW],
          globalSetup: 'test/support/postgresql-template.ts',
          provide: { engine: 'postgresql', thorough },
        },
      },
      {
        extends: true,
        test: {
          name: 'e2e',
          include: ['test/e2e/*.e2e.ts'],
          globalSetup: ['test/e2e/support/chromium.ts', 'test/support/sqlite-template.ts'],
          testTimeout: 300_000,
          // Each worker keeps a browser busy while the other tests run.
          maxWorkers: 1,
          // Browser, server and test share one machine. If it stalls for seconds, the server rightly refuses
          // requests.
          retry: 1,
        },
      },
    ],
  },
});
