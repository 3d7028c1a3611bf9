/** What both servers are started with. */
export const WEBHOOK_SECRET = 'whsec_benchmark';
export const SESSION_SECRET = 'a secret for the benchmark only';

/** A page as the limit sends it: text, and the columns of the user's row between. */
export type PageParts = { text: string; column: string | null }[];

export type Engine = 'sqlite' | 'postgresql';

/** An instant as the engine's driver wants it, of epoch seconds. */
export function instantFor(engine: Engine): (seconds: number) => string {
  const iso = (seconds: number): string => new Date(seconds * 1000).toISOString();
  return engine === 'sqlite'
    ? (seconds) => iso(seconds).replace('Z', '+00:00')
    : (seconds) => iso(seconds).replace('T', ' ').replace('Z', '');
}
