import { PrismaPg } from '@prisma/adapter-pg';
import { DriverAdapterError, isDriverAdapterError } from '@prisma/driver-adapter-utils';
import type {
  SqlDriverAdapter,
  SqlMigrationAwareDriverAdapterFactory,
  SqlQuery,
  SqlQueryable,
  Transaction,
} from '@prisma/driver-adapter-utils';

/** Pool size per process. The sum over all processes must stay below the server's max_connections. */
const POOL_SIZE = 10;

/**
 * What every connection needs, whatever the defaults of the database are:
 * - Our locks rely on READ COMMITTED: after waiting for a lock, a statement must see what its previous holder committed.
 *   https://www.postgresql.org/docs/current/transaction-iso.html
 * - Prisma reads dates only in this style.
 * - An event is acknowledged only when it survives a power cut.
 *   https://www.postgresql.org/docs/current/wal-async-commit.html
 */
const SESSION_SETTINGS = `
  SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL READ COMMITTED;
  SET DateStyle = 'ISO';
  SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'`;

const CONNECT_TIMEOUT_MS = 5_000;

/** How long a statement may wait for another transaction's lock, ms. After that the transaction is retried. */
const LOCK_TIMEOUT_MS = 2_000;

/** After this many ms the server aborts a transaction whose process went silent, and releases its locks. */
const IDLE_IN_TRANSACTION_TIMEOUT_MS = 15_000;

/** How many statements are kept prepared on each connection. */
const PREPARED_LIMIT = 500;

/** 55P03 lock_not_available. https://www.postgresql.org/docs/current/errcodes-appendix.html */
const LOCK_NOT_AVAILABLE = '55P03';

/** 57P01 to 57P03 and class 08: the server is shutting down or starting up, or the connection broke. */
const CONNECTION_LOST = /^(57P0[123]|08...)$/;

/** pg's message when the pool is exhausted. A failed connection attempt has a different one. */
const POOL_BUSY = /^timeout exceeded when trying to connect/;

/** The same as CONNECTION_LOST, where pg has only a message. */
const DRIVER_LOST = /^(Connection terminated|Client has encountered a connection error|Client was closed)/;

/**
 * Prisma's PostgreSQL adapter, with these changes:
 *
 * - a transaction with an isolation level is a read-only snapshot, as on SQLite;
 * - a lock timeout counts as a write conflict and is retried, like a deadlock;
 * - a broken connection is reported as ConnectionClosed, except for network errors that the driver passes on unmapped
 *   (`NETWORK_DOWN` in transaction.ts);
 * - COMMIT of a transaction with a failed statement is an error. PostgreSQL itself would answer with a silent
 *   ROLLBACK.
 *
 * https://www.postgresql.org/docs/current/sql-commit.html
 *
 * @param url `postgresql://user:password@host:port/database`
 */
export function postgresqlAdapterFactory(
  url: string,
  poolSize = POOL_SIZE,
): SqlMigrationAwareDriverAdapterFactory {
  const official = new PrismaPg(
    {
      connectionString: url,
      max: poolSize,
      connectionTimeoutMillis: CONNECT_TIMEOUT_MS,
      lock_timeout: LOCK_TIMEOUT_MS,
      idle_in_transaction_session_timeout: IDLE_IN_TRANSACTION_TIMEOUT_MS,
      // pg-pool waits for the promise, although its type does not say so.
      onConnect: (client) => client.query(SESSION_SETTINGS) as never,
      keepAlive: true,
      application_name: 'tandem',
    },
    { statementNameGenerator: createStatementNames() },
  );
  return {
    provider: official.provider,
    adapterName: official.adapterName,
    connect: async () => guard(await official.connect()),
    connectToShadowDb: async () => guard(await official.connectToShadowDb()),
  };
}

type OfficialAdapter = Awaited<ReturnType<PrismaPg['connect']>>;

function guard(connection: OfficialAdapter): SqlDriverAdapter {
  // pg emits 'error' on idle clients; unhandled, it would end the process. A running query reports the error itself.
  connection.underlyingDriver().on('connect', (client) => {
    client.on('error', () => undefined);
  });
  return {
    ...queries(connection),
    // Sent as one message, and so in one transaction: a migration is applied whole or not at all. The official adapter
    // splits the script at every semicolon.
    executeScript: (script) =>
      translatingErrors(async () => {
        await connection.underlyingDriver().query(script);
      }),
    startTransaction: async (isolationLevel) =>
      transaction(
        await translatingErrors(() =>
          isolationLevel ? snapshot(connection) : connection.startTransaction(),
        ),
      ),
    getConnectionInfo: () => connection.getConnectionInfo(),
    dispose: () => connection.dispose(),
  };
}

function queries(queryable: SqlQueryable): SqlQueryable {
  return {
    provider: queryable.provider,
    adapterName: queryable.adapterName,
    queryRaw: (query) => translatingErrors(() => queryable.queryRaw(query)),
    executeRaw: (query) => translatingErrors(() => queryable.executeRaw(query)),
  };
}

/**
 * All statements see the state at the first one. A read-only transaction never fails with a serialization error.
 * https://www.postgresql.org/docs/current/transaction-iso.html
 */
async function snapshot(connection: OfficialAdapter): Promise<Transaction> {
  const official = await connection.startTransaction('REPEATABLE READ');
  try {
    await official.executeRaw({ sql: 'SET TRANSACTION READ ONLY', args: [], argTypes: [] });
    return official;
  } catch (error) {
    // `rollback` only returns the connection to the pool.
    await official.executeRaw({ sql: 'ROLLBACK', args: [], argTypes: [] }).catch(() => undefined);
    await official.rollback();
    throw error;
  }
}

function transaction(official: Transaction): Transaction {
  let broken = false;
  let last: Promise<unknown> = Promise.resolve();

  /** Serialises queries: Prisma reads several relations at once, but a connection runs one query at a time. */
  function watched<T>(work: () => Promise<T>): Promise<T> {
    const result = last.then(() => translatingErrors(work));
    last = result.catch(() => {
      broken = true;
    });
    return result;
  }

  function executeRaw(query: SqlQuery): Promise<number> {
    return watched(async () => {
      if (broken && query.sql === 'COMMIT') {
        // Roll back, so that the pool does not get back a connection that refuses every statement.
        await official.executeRaw({ sql: 'ROLLBACK', args: [], argTypes: [] });
        throw new Error('A statement of this transaction failed, so it cannot be committed.');
      }
      return official.executeRaw(query);
    });
  }

  return {
    provider: official.provider,
    adapterName: official.adapterName,
    options: official.options,
    queryRaw: (query) => watched(() => official.queryRaw(query)),
    executeRaw,
    commit: () => official.commit(),
    rollback: () => official.rollback(),
    createSavepoint: (name) => watched(() => savepoint(`SAVEPOINT ${name}`)),
    rollbackToSavepoint: async (name) => {
      await watched(() => savepoint(`ROLLBACK TO SAVEPOINT ${name}`));
      broken = false;
    },
    releaseSavepoint: (name) => watched(() => savepoint(`RELEASE SAVEPOINT ${name}`)),
  };

  async function savepoint(sql: string): Promise<void> {
    await official.executeRaw({ sql, args: [], argTypes: [] });
  }
}

/** Runs a query and translates pg's errors into the ones that Prisma knows. */
async function translatingErrors<T>(query: () => Promise<T>): Promise<T> {
  try {
    return await query();
  } catch (error) {
    throw translate(error);
  }
}

function translate(error: unknown): unknown {
  if (!isDriverAdapterError(error)) {
    const { message } = error as Error;
    // Not ConnectionClosed: the database is up, but busy with our other queries.
    if (POOL_BUSY.test(message))
      return new DriverAdapterError({ kind: 'SocketTimeout', originalMessage: message });
    if (!DRIVER_LOST.test(message)) return error;
    return new DriverAdapterError({ kind: 'ConnectionClosed', originalMessage: message });
  }
  // Prisma's name for ETIMEDOUT: the network lost the connection.
  if (error.cause.kind === 'SocketTimeout')
    return new DriverAdapterError({ ...error.cause, kind: 'ConnectionClosed' });
  if (error.cause.kind !== 'postgres') return error;
  const { code, message } = error.cause;
  const original = { originalCode: code, originalMessage: message };
  if (code === LOCK_NOT_AVAILABLE) {
    return new DriverAdapterError({ kind: 'TransactionWriteConflict', ...original });
  }
  if (CONNECTION_LOST.test(code)) return new DriverAdapterError({ kind: 'ConnectionClosed', ...original });
  return error;
}

/** Names the statements to keep prepared, one name per text; '' once the limit is reached. */
function createStatementNames(): (query: SqlQuery) => string {
  const names = new Map<string, string>();
  return ({ sql }) => {
    const known = names.get(sql);
    if (known !== undefined) return known;
    if (names.size === PREPARED_LIMIT) return '';
    const name = `tandem_${names.size}`;
    names.set(sql, name);
    return name;
  };
}
