import { PrismaBetterSqlite3 } from '@prisma/adapter-better-sqlite3';
import type {
  SqlDriverAdapter,
  SqlDriverAdapterFactory,
  SqlMigrationAwareDriverAdapterFactory,
  Transaction,
} from '@prisma/driver-adapter-utils';
import Database from 'better-sqlite3';

import { createGaps, whenUnlocked } from './write-lock.ts';

/** How many statements are kept prepared. */
const PREPARED_LIMIT = 500;

/**
 * secure_delete: what is deleted is overwritten, so that a deleted address is in no later backup of the file.
 * temp_store: RETURNING collects its rows in a temporary table; creating a file for it would cost ten times the
 * statement.
 */
const PRAGMAS = `
  PRAGMA journal_mode = WAL;
  PRAGMA synchronous = FULL;
  PRAGMA foreign_keys = ON;
  PRAGMA secure_delete = ON;
  PRAGMA temp_store = MEMORY;
`;

/**
 * Prisma's better-sqlite3 adapter with the transactions we need (docs/decisions/002):
 *
 * - a transaction begins IMMEDIATE, so that what it reads cannot change before it writes;
 * - it shares the write lock fairly with other processes, and waits for it without blocking the event loop
 *   (write-lock.ts);
 * - a query outside a transaction waits for the open one to end instead of running inside it on the shared
 *   connection;
 * - if COMMIT or ROLLBACK fails, nothing stays open;
 * - statements stay prepared, which saves about 12% of each statement's time.
 *
 * Every connection is in WAL mode, enforces foreign keys, and returns from COMMIT only once the data is on disk.
 *
 * @param waitMs how long to wait for another process, ms
 */
export function sqliteAdapterFactory(path: string, waitMs: number): SqlMigrationAwareDriverAdapterFactory {
  // SQLite's own busy timeout blocks the event loop, so it is used only for opening and migrating. Later, reads never
  // wait, and writes wait in `whenUnlocked`.
  const official = new PrismaBetterSqlite3({ url: path, timeout: waitMs });
  return {
    provider: official.provider,
    adapterName: official.adapterName,
    connect: async () => guard(await prepared(await official.connect()), waitMs),
    connectToShadowDb: async () => guard(await official.connectToShadowDb(), waitMs),
  };
}

/**
 * Adds a second connection for `SELECT`s outside transactions: it sees committed data and waits for no writer
 * (https://www.sqlite.org/wal.html#concurrency). All other statements use the first one. A transaction with an
 * isolation level is a read-only snapshot on a connection of its own.
 *
 * @param waitMs how long to wait for another process, ms
 */
export function withReader(path: string, waitMs: number): SqlDriverAdapterFactory {
  const factory = sqliteAdapterFactory(path, waitMs);

  async function connectReader(): Promise<SqlDriverAdapter> {
    return orDispose(await factory.connect(), (reader) => reader.executeScript('PRAGMA query_only = ON'));
  }

  async function snapshot(): Promise<Transaction> {
    const reader = await orDispose(await connectReader(), (it) => run(it, 'BEGIN'));
    return transaction(reader, () => void reader.dispose());
  }

  return {
    ...factory,
    connect: async () => {
      const writer = await orDispose(await factory.connect(), (it) =>
        it.executeScript('PRAGMA busy_timeout = 0'),
      );
      const reader = await connectReader().catch(async (error: unknown) => {
        await writer.dispose();
        throw error;
      });
      return {
        ...writer,
        startTransaction: (isolationLevel) => (isolationLevel ? snapshot() : writer.startTransaction()),
        queryRaw: (query) => (/^\s*SELECT/.test(query.sql) ? reader : writer).queryRaw(query),
        dispose: async () => {
          await reader.dispose();
          await writer.dispose();
        },
      };
    },
  };
}

async function prepared(connection: SqlDriverAdapter): Promise<SqlDriverAdapter> {
  return orDispose(connection, async (it) => {
    await it.executeScript(PRAGMAS);
    keepStatements(it);
  });
}

/** Prepares a new connection, and closes it if that fails. */
async function orDispose(
  connection: SqlDriverAdapter,
  prepare: (connection: SqlDriverAdapter) => Promise<unknown>,
): Promise<SqlDriverAdapter> {
  try {
    await prepare(connection);
    return connection;
  } catch (error) {
    await connection.dispose();
    throw error;
  }
}

/**
 * The official adapter prepares each statement again and binds its values permanently. This gives it cached
 * statements that take their values on each run, with just the methods that it calls.
 */
function keepStatements(connection: SqlDriverAdapter): void {
  const { client } = connection as { client?: unknown };
  if (!(client instanceof Database))
    throw new Error('The SQLite adapter no longer exposes its connection as `client`.');
  const prepare = client.prepare.bind(client);
  const kept = new Map<string, ReturnType<typeof withValues>>();

  function withValues(sql: string) {
    const statement = prepare(sql);
    let columns: Database.ColumnDefinition[] | undefined;
    return {
      bind: (values: unknown[]) => ({
        reader: statement.reader,
        columns: () => (columns ??= statement.columns()),
        run: () => statement.run(values),
        raw: () => ({ all: () => statement.raw().all(values) }),
      }),
    };
  }

  function keptStatement(sql: string): ReturnType<typeof withValues> {
    const known = kept.get(sql);
    if (known) return known;
    const statement = withValues(sql);
    if (kept.size < PREPARED_LIMIT) kept.set(sql, statement);
    return statement;
  }
  Object.assign(client, { prepare: keptStatement });
}

function guard(connection: SqlDriverAdapter, waitMs: number): SqlDriverAdapter {
  const lock = createLock();
  const gaps = createGaps();

  async function alone<T>(work: () => Promise<T>): Promise<T> {
    const release = await lock();
    try {
      return await work();
    } finally {
      release();
    }
  }

  async function begin(): Promise<() => void> {
    const release = await lock();
    try {
      await gaps.leaveGap();
      await whenUnlocked(() => run(connection, 'BEGIN IMMEDIATE'), waitMs);
    } catch (error) {
      release();
      throw error;
    }
    const endTurn = gaps.start();
    return () => {
      endTurn();
      release();
    };
  }

  return {
    provider: connection.provider,
    adapterName: connection.adapterName,
    queryRaw: (query) => alone(() => whenUnlocked(() => connection.queryRaw(query), waitMs)),
    executeRaw: (query) => alone(() => whenUnlocked(() => connection.executeRaw(query), waitMs)),
    executeScript: (script) => alone(() => connection.executeScript(script)),
    startTransaction: async () => transaction(connection, await begin()),
    dispose: () => connection.dispose(),
  };
}

function transaction(connection: SqlDriverAdapter, release: () => void): Transaction {
  async function end(statement: 'COMMIT' | 'ROLLBACK'): Promise<void> {
    try {
      await run(connection, statement);
    } catch (error) {
      // After a failed COMMIT (a full disk, say) the transaction can still be open, and everything "committed" later
      // would be lost with it. If SQLite has already rolled back, this ROLLBACK fails harmlessly.
      await run(connection, 'ROLLBACK').catch(() => undefined);
      throw error;
    } finally {
      release();
    }
  }

  return {
    provider: connection.provider,
    adapterName: connection.adapterName,
    // "Phantom": Prisma only calls commit() or rollback() and leaves the SQL to us.
    options: { usePhantomQuery: true },
    queryRaw: (query) => connection.queryRaw(query),
    executeRaw: (query) => connection.executeRaw(query),
    commit: () => end('COMMIT'),
    rollback: () => end('ROLLBACK'),
    createSavepoint: (name) => run(connection, `SAVEPOINT ${name}`),
    rollbackToSavepoint: (name) => run(connection, `ROLLBACK TO ${name}`),
    releaseSavepoint: (name) => run(connection, `RELEASE SAVEPOINT ${name}`),
  };
}

async function run(connection: SqlDriverAdapter, sql: string): Promise<void> {
  await connection.executeRaw({ sql, args: [], argTypes: [] });
}

/** A FIFO lock: resolves to the function that releases it. */
function createLock(): () => Promise<() => void> {
  let last = Promise.resolve();
  return async () => {
    const { promise, resolve } = withResolvers();
    const previous = last;
    last = promise;
    await previous;
    return resolve;
  };
}

function withResolvers(): { promise: Promise<void>; resolve: () => void } {
  let resolve = (): void => undefined;
  const promise = new Promise<void>((settle) => {
    resolve = settle;
  });
  return { promise, resolve };
}
