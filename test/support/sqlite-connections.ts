import { PrismaBetterSqlite3 } from '@prisma/adapter-better-sqlite3';
import { onTestFinished, vi } from 'vitest';

type Connecting = ReturnType<PrismaBetterSqlite3['connect']>;

/**
 * Notes the connections to SQLite that this process opens from now on, to spy on what is sent over them.
 *
 * @returns a function that resolves to them
 */
export function noteConnections(): () => Promise<Awaited<Connecting>[]> {
  const connects = vi.spyOn(PrismaBetterSqlite3.prototype, 'connect');
  onTestFinished(() => {
    connects.mockRestore();
  });
  return () => Promise.all(connects.mock.results.map(({ value }) => value as Connecting));
}
