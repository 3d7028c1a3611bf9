import Database from 'better-sqlite3';
import { Client } from 'pg';
import { onTestFinished } from 'vitest';

/** A connection of its own to a server's database, as another process has one. It is closed after the test. */
export interface OtherConnection {
  /** Runs statements, with semicolons between them. */
  run: (statements: string) => Promise<void>;
  rows: (query: string) => Promise<Record<string, unknown>[]>;
}

export async function otherConnection({ databaseUrl }: { databaseUrl: string }): Promise<OtherConnection> {
  if (databaseUrl.startsWith('file:')) {
    const database = new Database(databaseUrl.replace('file:', ''));
    onTestFinished(() => {
      database.close();
    });
    return {
      run: (statements) => {
        database.exec(statements);
        return Promise.resolve();
      },
      rows: (query) => Promise.resolve(database.prepare(query).all() as Record<string, unknown>[]),
    };
  }
  const client = new Client({ connectionString: databaseUrl });
  await client.connect();
  // Its database is dropped, with force, when the test has finished.
  client.on('error', () => undefined);
  onTestFinished(() => client.end().catch(() => undefined));
  return {
    run: async (statements) => {
      await client.query(statements);
    },
    rows: async (query) => (await client.query<Record<string, unknown>>(query)).rows,
  };
}

/**
 * Makes the database refuse one kind of write, as a full disk or a bug would.
 *
 * @param write `INSERT`, `UPDATE`, `UPDATE OF "column"` …
 * @param when refuses only while this SQL condition holds; always when it is left out
 * @returns lifts it
 */
export async function refuseWrites(
  server: { databaseUrl: string },
  write: string,
  table: string,
  when = 'true',
): Promise<{ lift: () => Promise<void> }> {
  const { run } = await otherConnection(server);
  if (server.databaseUrl.startsWith('file:')) {
    await run(
      `CREATE TRIGGER refused BEFORE ${write} ON "${table}" WHEN ${when} BEGIN SELECT RAISE(ABORT, 'refused'); END`,
    );
    return { lift: () => run('DROP TRIGGER refused') };
  }
  await run(
    `CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
       BEGIN IF ${when} THEN RAISE EXCEPTION 'refused'; END IF; RETURN NEW; END $$;
     CREATE TRIGGER refused BEFORE ${write} ON "${table}" FOR EACH ROW EXECUTE FUNCTION refuse()`,
  );
  return { lift: () => run('DROP FUNCTION refuse CASCADE') };
}
