import { PrismaBetterSqlite3 } from '@prisma/adapter-better-sqlite3';
import type { SqlQuery } from '@prisma/driver-adapter-utils';
import Database from 'better-sqlite3';

import { databasePath } from '../../src/db/open.ts';
import { startServer } from '../../src/start.ts';
import { freePort } from '../support/free-port.ts';
import type { Work } from './baseline-work.ts';
import { fire } from './load.ts';
import type { Shot } from './load.ts';
import { tandemEnvironment } from './servers.ts';

/** A statement that Tandem ran, and how SQLite finds its rows. */
export interface Statement {
  sql: string;
  plan: string[];
}

type Connection = ReturnType<PrismaBetterSqlite3['connect']>;

/** A statement and the number of its values. */
interface Asked {
  sql: string;
  values: number;
}

/**
 * The statements that Tandem sends SQLite for some requests, recorded in a server inside this process. Nothing is
 * measured.
 *
 * @param databaseUrl a database that no other server is using
 * @param shots the requests, one after the other
 * @returns for each request its statements in order, without BEGIN and COMMIT
 */
export async function askedFor(databaseUrl: string, shots: readonly Shot[]): Promise<Asked[][]> {
  let asked: Asked[] = [];
  const note = ({ sql, args }: SqlQuery): void => {
    if (!isBracket(sql)) asked.push({ sql: sql.replace(/\s+/g, ' ').trim(), values: args.length });
  };
  const adapter = PrismaBetterSqlite3.prototype;
  const official = Object.getOwnPropertyDescriptor(adapter, 'connect');
  if (!official) throw new Error('The SQLite adapter no longer connects in the expected way.');
  const connect = official.value as (this: PrismaBetterSqlite3) => Connection;
  adapter.connect = async function () {
    const connection = await connect.call(this);
    const queryRaw = connection.queryRaw.bind(connection);
    const executeRaw = connection.executeRaw.bind(connection);
    return Object.assign(connection, {
      queryRaw: (query: SqlQuery) => (note(query), queryRaw(query)),
      executeRaw: (query: SqlQuery) => (note(query), executeRaw(query)),
    });
  };
  try {
    const port = await freePort();
    const env = { ...tandemEnvironment(databaseUrl, port), LOG_LEVEL: 'silent' };
    const server = await startServer(env, () => new Date());
    const perShot: Asked[][] = [];
    for (const shot of shots) {
      asked = [];
      await fire(port, [shot], 1);
      perShot.push(asked);
    }
    await server.close();
    return perShot;
  } finally {
    Object.defineProperty(adapter, 'connect', official);
  }
}

/**
 * Like `askedFor`.
 *
 * @returns each distinct statement once, and how SQLite finds its rows
 */
export async function statementsOf(databaseUrl: string, shots: readonly Shot[]): Promise<Statement[]> {
  const asked = new Map((await askedFor(databaseUrl, shots)).flat().map(({ sql, values }) => [sql, values]));
  const database = new Database(databasePath(databaseUrl), { readonly: true });
  const statements = [...asked].map(([sql, count]) => {
    const values = Array<null>(count).fill(null);
    const rows = database.prepare(`EXPLAIN QUERY PLAN ${sql}`).all(values) as { detail: string }[];
    return { sql, plan: rows.map(({ detail }) => detail) };
  });
  database.close();
  return statements;
}

/**
 * Does one piece of the baseline's work and records its statements.
 *
 * @param databaseUrl a SQLite database
 * @returns its statements in order, without BEGIN and COMMIT
 */
export function askedByBaseline<T>(databaseUrl: string, work: Work<T>): string[] {
  const database = new Database(databasePath(databaseUrl));
  const asked: string[] = [];
  let step = work.next();
  while (step.done !== true) {
    const { sql, args } = step.value;
    if (!isBracket(sql)) asked.push(sql);
    const statement = database.prepare(sql.replace(/\$\d+/g, '?'));
    if (statement.reader) step = work.next(statement.all(args) as Record<string, unknown>[]);
    else {
      statement.run(args);
      step = work.next([]);
    }
  }
  database.close();
  return asked;
}

function isBracket(sql: string): boolean {
  return /^\s*(BEGIN|COMMIT|SAVEPOINT|RELEASE)/.test(sql);
}

/** Names that are not tables: values, documents and results of earlier parts of the statement. */
const NO_TABLE =
  /^SCAN (CONSTANT ROW|\d+-ROW VALUES CLAUSE|\w+ VIRTUAL TABLE|\w+_[01]\b|input\b|unsure\b|money_back\b|returned\b|\(subquery)/;

/** Whether a statement scans a whole table. */
export function scans({ plan }: Statement): boolean {
  return plan.some((step) => step.startsWith('SCAN ') && !NO_TABLE.test(step));
}
