import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    globalSetup: 'test/support/template-database.ts',
    // Passwords are hashed for real, and processes are started for real.
    testTimeout: 60_000,
    hookTimeout: 60_000,
  },
});
