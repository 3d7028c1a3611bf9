export type Engine = 'sqlite' | 'postgresql';

declare module 'vitest' {
  export interface ProvidedContext {
    /** The kind of database that this run of the tests is on. */
    engine: Engine;
    /** Whether this is the long run, with every kill and every story. */
    thorough: boolean;
    /** A folder that is removed after the run. */
    scratch: string;
    /** A database that is migrated and empty, which every test copies: a SQLite file's path, or a PostgreSQL name. */
    templateDatabase: string;
    /** The PostgreSQL server, as its superuser; null where the tests are on SQLite. */
    postgresqlServer: string | null;
    /** Where the browser is that the end-to-end tests use. */
    chromium: string;
  }
}
