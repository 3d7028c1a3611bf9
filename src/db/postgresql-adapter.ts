import { PrismaPg } from '@prisma/adapter-pg';
import { DriverAdapterError, isDriverAdapterError } from '@prisma/driver-adapter-utils';
import type {
  SqlDriverAdapter,
  SqlMigrationAwareDriverAdapterFactory,
  SqlQuery,
  SqlQueryable,
  Transaction,
} from '@prisma/driver-adapter-utils';

/** Connections of one process. The sum over all processes must stay below the server's max_connections. */
const POOL_SIZE = 10;

/** How long to wait for a connection to be made, ms. */
const CONNECT_TIMEOUT_MS = 5_000;

/** How long a statement may wait for another transaction's lock, ms. The transaction is tried again then, some times. */
const LOCK_TIMEOUT_MS = 2_000;

/** After this time the server gives up a transaction whose process went silent, and frees its locks, ms. */
const IDLE_IN_TRANSACTION_TIMEOUT_MS = 15_000;

/** So many statements are kept prepared on each connection; further ones are sent as they are. */
const PREPARED_LIMIT = 500;

/** 55P03 lock_not_available. https://www.postgresql.org/docs/current/errcodes-appendix.html */
const LOCK_NOT_AVAILABLE = '55P03';

/** 57P01 to 57P03 and class 08: the server is going down, starting up, or the connection broke. */
const CONNECTION_LOST = /^(57P0[123]|08...)$/;

/** The pool's words when all of its connections are in use for too long; a connection that cannot be made is told otherwise. */
const POOL_BUSY = /^timeout exceeded when trying to connect/;

/** The same as CONNECTION_LOST where the driver (pg) has only words for it. */
const DRIVER_LOST = /^(Connection terminated|Client has encountered a connection error|Client was closed)/;

/**
 * Prisma's PostgreSQL adapter, set up for money:
 *
 * - a transaction with an isolation level is a snapshot, and only reads, as on SQLite;
 * - a lock that cannot be had in time is a conflict, to be tried again, like a dead-lock;
 * - a connection that breaks is told as such, whatever words the driver has for it;
 * - COMMIT of a transaction in which a statement failed is an error. PostgreSQL itself answers it with a quiet ROLLBACK.
 *
 * https://www.postgresql.org/docs/current/sql-commit.html
 *
 * @param url `postgresql://user:password@host:port/database`
 * @param poolSize how many connections it may have at a time
 * @returns a factory for PrismaClient and for the schema engine
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
  // A connection that breaks while nobody listens, as one does that was just given back for an error, would end the
  // process. Whoever uses it is told by what they asked; nobody else needs to know.
  connection.underlyingDriver().on('connect', (client) => {
    client.on('error', () => undefined);
  });
  return {
    ...queries(connection),
    // In one message, and so in one transaction: a migration is applied whole or not at all. The official adapter
    // cuts the script at every semicolon.
    executeScript: (script) =>
      inWords(async () => {
        await connection.underlyingDriver().query(script);
      }),
    startTransaction: async (isolationLevel) =>
      transaction(
        await inWords(() => (isolationLevel ? snapshot(connection) : connection.startTransaction())),
      ),
    getConnectionInfo: () => connection.getConnectionInfo(),
    dispose: () => connection.dispose(),
  };
}

function queries(queryable: SqlQueryable): SqlQueryable {
  return {
    provider: queryable.provider,
    adapterName: queryable.adapterName,
    queryRaw: (query) => inWords(() => queryable.queryRaw(query)),
    executeRaw: (query) => inWords(() => queryable.executeRaw(query)),
  };
}

/**
 * All of its statements see one moment, that of the first one. As it only reads, it is never refused for that.
 * https://www.postgresql.org/docs/current/transaction-iso.html
 */
async function snapshot(connection: OfficialAdapter): Promise<Transaction> {
  const official = await connection.startTransaction('REPEATABLE READ');
  try {
    await official.executeRaw({ sql: 'SET TRANSACTION READ ONLY', args: [], argTypes: [] });
    return official;
  } catch (error) {
    await official.rollback();
    throw error;
  }
}

function transaction(official: Transaction): Transaction {
  let broken = false;
  let last: Promise<unknown> = Promise.resolve();

  /** One after the other: Prisma reads several relations at once, and one connection takes one query at a time. */
  function watched<T>(work: () => Promise<T>): Promise<T> {
    const result = last.then(() => inWords(work));
    last = result.catch(() => {
      broken = true;
    });
    return result;
  }

  function executeRaw(query: SqlQuery): Promise<number> {
    return watched(async () => {
      if (broken && query.sql === 'COMMIT') {
        // The connection goes back to the pool as it is: not in a transaction that refuses every statement.
        await official.executeRaw({ sql: 'ROLLBACK', args: [], argTypes: [] });
        throw new Error('A statement of this transaction failed: it cannot be committed.');
      }
      return official.executeRaw(query);
    });
  }

  return {
    ...queries(official),
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

/** Runs a query; what the driver throws is told in the words that Prisma knows. */
async function inWords<T>(query: () => Promise<T>): Promise<T> {
  try {
    return await query();
  } catch (error) {
    throw translate(error);
  }
}

function translate(error: unknown): unknown {
  if (!isDriverAdapterError(error)) {
    const { message } = error as Error;
    // Not ConnectionClosed: the database is there, and busy with what we have asked already.
    if (POOL_BUSY.test(message))
      return new DriverAdapterError({ kind: 'SocketTimeout', originalMessage: message });
    if (!DRIVER_LOST.test(message)) return error;
    return new DriverAdapterError({ kind: 'ConnectionClosed', originalMessage: message });
  }
  if (error.cause.kind !== 'postgres') return error;
  const { code, message } = error.cause;
  const original = { originalCode: code, originalMessage: message };
  if (code === LOCK_NOT_AVAILABLE) {
    return new DriverAdapterError({ kind: 'TransactionWriteConflict', ...original });
  }
  if (CONNECTION_LOST.test(code)) return new DriverAdapterError({ kind: 'ConnectionClosed', ...original });
  return error;
}

/** Names the statements that are to be kept prepared: one a text, and none ('') once there are too many. */
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
