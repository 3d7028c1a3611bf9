export type Engine = 'sqlite' | 'postgresql';

declare module 'vitest' {
  export interface ProvidedContext {
    /** The database engine of this run. */
    engine: Engine;
    /** Whether this is `npm run test:all`, with every kill and every story. */
    thorough: boolean;
    /** A folder that is removed after the run. */
    scratch: string;
    /** The migrated, empty database that every test copies: a SQLite file's path or a PostgreSQL name. */
    templateDatabase: string;
    /** The PostgreSQL server as its superuser; null for tests on SQLite. */
    postgresqlServer: string | null;
    /** The path of the browser for the end-to-end tests. */
    chromium: string;
  }
}
