import { PrismaBetterSqlite3 } from '@prisma/adapter-better-sqlite3';
import type { SqlQuery } from '@prisma/driver-adapter-utils';
import Database from 'better-sqlite3';

import { databasePath } from '../../src/db/open.ts';
import { startServer } from '../../src/start.ts';
import { freePort } from '../support/free-port.ts';
import { fire } from './load.ts';
import type { Shot } from './load.ts';
import { tandemEnvironment } from './servers.ts';

/** A statement that Tandem ran, and how SQLite finds its rows. */
export interface Statement {
  sql: string;
  plan: string[];
}

type Connection = ReturnType<PrismaBetterSqlite3['connect']>;

/**
 * What Tandem asks SQLite for some requests, in a server within this process: none of it is measured.
 *
 * @param databaseUrl a database that no other server uses now
 * @param shots the requests, one after the other
 * @returns each different statement once, without BEGIN and COMMIT
 */
export async function statementsOf(databaseUrl: string, shots: readonly Shot[]): Promise<Statement[]> {
  const asked = new Map<string, number>();
  const note = ({ sql, args }: SqlQuery): void =>
    void asked.set(sql.replace(/\s+/g, ' ').trim(), args.length);
  const adapter = PrismaBetterSqlite3.prototype;
  const official = Object.getOwnPropertyDescriptor(adapter, 'connect');
  if (!official) throw new Error('The SQLite adapter connects in another way now.');
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
    const server = await startServer(tandemEnvironment(databaseUrl, port), () => new Date());
    asked.clear();
    await fire(port, shots, 1);
    await server.close();
  } finally {
    Object.defineProperty(adapter, 'connect', official);
  }
  const database = new Database(databasePath(databaseUrl), { readonly: true });
  const statements = [...asked]
    .filter(([sql]) => !/^(BEGIN|COMMIT)/.test(sql))
    .map(([sql, parameters]) => {
      const values = Array<null>(parameters).fill(null);
      const rows = database.prepare(`EXPLAIN QUERY PLAN ${sql}`).all(values) as { detail: string }[];
      return { sql, plan: rows.map(({ detail }) => detail) };
    });
  database.close();
  return statements;
}

/** Whether a statement looks through a whole table. */
export function scans({ plan }: Statement): boolean {
  return plan.some((step) => /^SCAN (?!CONSTANT ROW|\d+-ROW VALUES CLAUSE)/.test(step));
}
