import { defineConfig } from 'vitest/config';

/** The two parts of `upgrade.ts` that run inside a checkout, the older one or this one. */
export default defineConfig({
  test: {
    include: ['test/upgrade/*.upgrade.ts'],
    globalSetup: 'test/support/sqlite-template.ts',
    provide: { engine: 'sqlite', thorough: false },
    testTimeout: 1_800_000,
  },
});
